"""Divide a mesh into charts: connected patches flat enough to be laid out by projection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.extraction.mesh.adjacency import sort_keys
from worker.extraction.mesh.face_geometry import face_normals
from worker.extraction.uv.segmentation_gpu import merge

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUGHNESS_WEIGHT = 2.0  # what a ragged outline costs beside what a bent patch costs


@dataclass(frozen=True, slots=True)
class Limits:
    """Which two patches may merge.

    cone_rad: how far a face may lean from the mean normal of both. max_area: of both together, square metres.
    small_area: one of the two is at most this large, square metres.
    """

    cone_rad: float
    max_area: float = np.inf
    small_area: float = np.inf


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of a surface, at first its faces, and which of them touch.

    areas: [patches], square metres. normals: [patches, 3], the sums of their faces' normals times areas. outlines:
    [patches], metres. pairs: [neighbours, 2], patches that touch, each pair once. borders: [neighbours], metres.
    """

    areas: Floats
    normals: Floats
    outlines: Floats
    pairs: Ints
    borders: Floats

    @classmethod
    def faces(cls, vertices: NDArray[Any], faces: NDArray[Any], device: str = "cpu") -> "Patches":
        """One patch a face. Faces touch at an edge that only the two of them have, and wind alike."""
        cross, sides = face_normals(vertices, faces, device)
        pairs, borders = _neighbours(faces.astype(np.int64), len(vertices), sides, device)
        return cls(np.sqrt(np.einsum("fd,fd->f", cross, cross)), cross, sides.sum(axis=1), pairs, borders)

    def joined(self, name: Ints) -> "Patches":
        """The patches that these become when those of one name (numbered from 0) join."""
        count = int(name.max()) + 1
        sides = name[self.pairs]
        apart = sides[:, 0] != sides[:, 1]
        low, high = sides[apart].min(axis=1), sides[apart].max(axis=1)
        key, inverse = np.unique(low * count + high, return_inverse=True)
        inner = _sum(sides[~apart, 0], self.borders[~apart], count)
        return Patches(
            areas=_sum(name, self.areas, count),
            normals=np.stack([_sum(name, self.normals[:, axis], count) for axis in range(3)], axis=1),
            outlines=_sum(name, self.outlines, count) - 2 * inner,
            pairs=np.stack([key // count, key % count], axis=1),
            borders=_sum(inverse, self.borders[apart], len(key)),
        )


def cluster(
    faces: Patches,
    *limits: Limits,
    device: str = "cpu",
    alive: Callable[[], object] = lambda: None,
) -> Ints:
    """Merge faces into charts; int64 [faces], charts numbered from 0.

    In each round every chart asks the neighbour that it would make the flattest, roundest patch with, and those
    that ask each other merge, within the first of the limits. Where none can merge any more the next of them applies.

    alive: called every round.
    """
    if device != "cpu":
        return merge(faces, limits, roughness_weight=ROUGHNESS_WEIGHT, device=device, alive=alive)
    normals = unit(faces.normals)
    chart, patches = np.arange(len(faces.areas)), faces
    for limit in limits:
        while True:
            alive()
            fit, cost = _offers(patches, _leans(normals, chart, unit(patches.normals)), limit)
            if not fit.any():
                break
            name = _names(_mutual(patches.pairs[fit], cost[fit], len(patches.areas)))
            chart, patches = name[chart], patches.joined(name)
    return chart


def absorb(faces: Patches, chart: Ints, limit: Limits, alive: Callable[[], object] = lambda: None) -> Ints:
    """Merge small charts with neighbours further than `cluster` did; int64 [faces], numbered from 0.

    There two charts' leans from their own axes are added up, which is never too little but mostly too much. Here every
    face is asked how far it leans from the axis of both.

    alive: called every round.
    """
    normals, whole = unit(faces.normals), faces.joined(chart)
    refused = np.empty((0, 2), dtype=np.int64)
    while True:
        alive()
        pairs = _roundest(whole, limit, refused)
        if len(pairs) == 0:
            return chart
        axis = unit(whole.normals)
        axis[pairs] = unit(whole.normals[pairs].sum(axis=1))[:, None]
        asked = np.flatnonzero(np.isin(np.arange(len(axis)), pairs)[chart])
        least = np.ones(len(axis))
        np.minimum.at(least, chart[asked], np.einsum("fd,fd->f", normals[asked], axis[chart[asked]]))
        fit = least[pairs].min(axis=1) >= np.cos(limit.cone_rad)
        owner = np.arange(len(axis))
        owner[pairs[fit, 1]] = pairs[fit, 0]
        name = _names(owner)
        refused = np.concatenate([refused, pairs[~fit]])
        refused = name[refused[~np.isin(refused, pairs[fit]).any(axis=1)]]  # what has merged is asked anew
        chart, whole = name[chart], whole.joined(name)


def _roundest(whole: Patches, limit: Limits, refused: Ints) -> Ints:
    """Pairs of charts that would each make the roundest chart with the other, of those not refused; [pairs, 2]."""
    one, other = whole.pairs.T
    count = len(whole.areas)
    wanted = _allowed(whole, limit) & ~np.isin(one * count + other, refused.min(axis=1) * count + refused.max(axis=1))
    owner = _mutual(whole.pairs[wanted], _roughness(whole)[wanted], count)
    merged = np.flatnonzero(owner != np.arange(count))
    return np.stack([owner[merged], merged], axis=1)


def _neighbours(faces: Ints, vertex_count: int, sides: Floats, device: str) -> tuple[Ints, Floats]:
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key, order = sort_keys(np.minimum(start, end) * vertex_count + np.maximum(start, end), device)
    first = np.flatnonzero(np.r_[True, np.diff(key) != 0])
    first = first[np.diff(np.r_[first, len(key)]) == 2]
    one, other = order[first], order[first + 1]
    alike = start[one] == end[other]
    return np.stack([one, other], axis=1)[alike] // 3, sides.ravel()[one][alike]


def _offers(patches: Patches, lean: Floats, limit: Limits) -> tuple[NDArray[np.bool_], Floats]:
    """Of each pair, whether it may merge and what that would cost."""
    one, other = patches.pairs.T
    axis = unit(patches.normals)
    together = unit(patches.normals[one] + patches.normals[other])
    bend = np.maximum(*(_angle(together, axis[side]) + lean[side] for side in (one, other)))
    fit = (bend <= limit.cone_rad) & _allowed(patches, limit)
    return fit, bend / limit.cone_rad + ROUGHNESS_WEIGHT * _roughness(patches)


def _allowed(patches: Patches, limit: Limits) -> NDArray[np.bool_]:
    """Of each pair, whether the limit's areas let it merge; [neighbours]."""
    pair = patches.areas[patches.pairs]
    allowed: NDArray[np.bool_] = (pair.sum(axis=1) <= limit.max_area) & (pair.min(axis=1) <= limit.small_area)
    return allowed


def _roughness(patches: Patches) -> Floats:
    """How much longer the outline of each pair would be than that of a circle of its area; [neighbours]."""
    one, other = patches.pairs.T
    outline = patches.outlines[one] + patches.outlines[other] - 2 * patches.borders
    area = np.maximum(patches.areas[one] + patches.areas[other], 1e-30)
    roughness: Floats = np.abs(outline) / np.sqrt(4 * np.pi * area)
    return roughness


def _leans(normals: Floats, chart: Ints, axis: Floats) -> Floats:
    """The largest angle between a chart's faces and its axis; radians [charts]."""
    least = np.ones(len(axis))
    np.minimum.at(least, chart, np.einsum("fd,fd->f", normals, axis[chart]))
    return np.arccos(np.clip(least, -1, 1))


def _mutual(pairs: Ints, cost: Floats, count: int) -> Ints:
    """Each chart's new owner: of two that ask each other the lower. The cheapest pair of all always does."""
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[np.argsort(cost, kind="stable")] = np.arange(len(pairs))
    asked = np.full(count, len(pairs))
    for side in pairs.T:
        np.minimum.at(asked, side, rank)
    agreed = (asked[pairs[:, 0]] == rank) & (asked[pairs[:, 1]] == rank)
    owner = np.arange(count)
    owner[pairs[agreed, 1]] = pairs[agreed, 0]
    return owner


def _names(owner: Ints) -> Ints:
    """Number the owners from 0, and give each chart its owner's number."""
    numbered = np.cumsum(owner == np.arange(len(owner))) - 1
    return numbered[owner]


def _sum(group: Ints, weights: Floats, count: int) -> Floats:
    return np.bincount(group, weights, count).astype(np.float64)


def unit(rows: Floats) -> Floats:
    """The rows scaled to a length of 1; what has no direction stays as it is."""
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return unit


def _angle(one: Floats, other: Floats) -> Floats:
    angle: Floats = np.arccos(np.clip(np.einsum("nd,nd->n", one, other), -1, 1))
    return angle
