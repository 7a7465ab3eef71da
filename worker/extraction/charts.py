"""Divide a mesh into charts: connected patches flat enough to be laid out by projection."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUGHNESS_WEIGHT = 0.5  # what a ragged outline costs beside what a bent patch costs
MAX_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Facets:
    """What clustering must know of each face and of each pair of neighbours.

    normals: unit [faces, 3]. areas, outlines: [faces], in square metres and metres.
    pairs: [neighbours, 2], faces that share an edge and wind alike. lengths: [neighbours], of that edge.
    """

    normals: Floats
    areas: Floats
    outlines: Floats
    pairs: Ints
    lengths: Floats

    @classmethod
    def of(cls, vertices: NDArray[Any], faces: NDArray[Any]) -> "Facets":
        """Measure a mesh. Edges that more than two faces share separate all of them."""
        corners = vertices[faces].astype(np.float64)
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        double = np.linalg.norm(cross, axis=1)
        sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        pairs, lengths = _neighbours(faces.astype(np.int64), len(vertices), sides)
        return cls(cross / np.maximum(double, 1e-30)[:, None], double / 2, sides.sum(axis=1), pairs, lengths)


def _neighbours(faces: Ints, vertex_count: int, sides: Floats) -> tuple[Ints, Floats]:
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, end) * vertex_count + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0])
    first = first[np.diff(np.r_[first, len(key)]) == 2]
    one, other = order[first], order[first + 1]
    alike = start[one] == end[other]
    return np.stack([one, other], axis=1)[alike] // 3, sides.ravel()[one][alike]


def cluster(
    facets: Facets,
    *,
    cone_rad: float,
    max_area: float,
    start: Ints | None = None,
    free: NDArray[np.bool_] | None = None,
) -> Ints:
    """Merge faces into charts; int64 [faces], charts numbered from 0.

    In each round every chart asks the neighbour that it would make the flattest, roundest patch with, and those
    that ask each other merge, as long as no face leans more than `cone_rad` from the patch's mean normal.

    start: charts to begin with instead of single faces. free: which of those may merge; all, if None.
    """
    chart = np.arange(len(facets.areas)) if start is None else start
    if free is not None:
        inside = free[chart[facets.pairs]].all(axis=1)
        facets = replace(facets, pairs=facets.pairs[inside], lengths=facets.lengths[inside])
    for _ in range(MAX_ROUNDS):
        merged = _merge_once(facets, chart, cone_rad, max_area)
        if merged is None:
            break
        chart = merged
    return chart


def _merge_once(facets: Facets, chart: Ints, cone_rad: float, max_area: float) -> Ints | None:
    count = int(chart.max()) + 1
    pairs, shared = _borders(chart[facets.pairs], facets.lengths, count)
    if len(pairs) == 0:
        return None
    area = np.bincount(chart, facets.areas, count)
    normal = _sums(chart, facets.normals * facets.areas[:, None], count)
    outline = np.bincount(chart, facets.outlines, count) - 2 * _inner(chart, facets, count)
    lean = _leans(facets, chart, _unit(normal))
    one, other = pairs.T
    axis = _unit(normal[one] + normal[other])
    bend = np.maximum(*(_angle(axis, _unit(normal[side])) + lean[side] for side in (one, other)))
    size = area[one] + area[other]
    rough = (outline[one] + outline[other] - 2 * shared) ** 2 / (4 * np.pi * np.maximum(size, 1e-30))
    cost = bend / cone_rad + ROUGHNESS_WEIGHT * np.sqrt(rough)
    fit = (bend <= cone_rad) & (size <= max_area)
    return _renumber(chart, _mutual(pairs[fit], cost[fit], count))


def _borders(sides: Ints, lengths: Floats, count: int) -> tuple[Ints, Floats]:
    """Pairs of charts that touch, each once, and the length of their common border."""
    low, high = sides.min(axis=1), sides.max(axis=1)
    apart = low != high
    key, inverse = np.unique(low[apart] * count + high[apart], return_inverse=True)
    return np.stack([key // count, key % count], axis=1), _sum(inverse, lengths[apart], len(key))


def _inner(chart: Ints, facets: Facets, count: int) -> Floats:
    one, other = chart[facets.pairs].T
    same = one == other
    return _sum(one[same], facets.lengths[same], count)


def _leans(facets: Facets, chart: Ints, axis: Floats) -> Floats:
    """The largest angle between a chart's faces and its axis; radians [charts]."""
    least = np.ones(len(axis))
    np.minimum.at(least, chart, np.einsum("fd,fd->f", facets.normals, axis[chart]))
    return np.arccos(np.clip(least, -1, 1))


def _mutual(pairs: Ints, cost: Floats, count: int) -> Ints | None:
    """Each chart's new owner: of two that ask each other the lower; None if no two do."""
    if len(pairs) == 0:
        return None
    dearest_first = np.argsort(-cost, kind="stable")
    asked = np.full(count, -1)
    for side in range(2):
        ask = np.full(count, -1)
        ask[pairs[dearest_first, side]] = dearest_first
        better = (asked < 0) | ((ask >= 0) & (_rank(dearest_first)[ask] > _rank(dearest_first)[asked]))
        asked = np.where((ask >= 0) & better, ask, asked)
    chosen = np.flatnonzero(
        (asked[pairs[:, 0]] == np.arange(len(pairs))) & (asked[pairs[:, 1]] == np.arange(len(pairs)))
    )
    owner = np.arange(count)
    owner[pairs[chosen, 1]] = pairs[chosen, 0]
    return owner


def _rank(order: Ints) -> Ints:
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank


def _renumber(chart: Ints, owner: Ints | None) -> Ints | None:
    if owner is None:
        return None
    kept = owner == np.arange(len(owner))
    return (np.cumsum(kept) - 1)[owner][chart]


def _sum(group: Ints, weights: Floats, count: int) -> Floats:
    return np.bincount(group, weights, count).astype(np.float64)


def _sums(group: Ints, rows: Floats, count: int) -> Floats:
    return np.stack([np.bincount(group, rows[:, axis], count) for axis in range(rows.shape[1])], axis=1)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return unit


def _angle(one: Floats, other: Floats) -> Floats:
    angle: Floats = np.arccos(np.clip(np.einsum("nd,nd->n", one, other), -1, 1))
    return angle
