"""Refine charts after clustering: merge small ones into their neighbours, and smooth the boundaries.

Clustering adds up the cones of two charts, which is never too small but mostly too large; merging here measures every
face. Smoothing moves a face to the chart that surrounds more of its boundary than its own chart does. Shorter
boundaries bleed less at coarse mip levels, leave less of the texture unused, and duplicate fewer vertices.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.uv.patches import ChartLimits, Floats, Ints, Patches, normalize

ROUNDS = 16  # of smoothing; hardly any face changes its chart after these


def merge_small(
    faces: Patches, chart: Ints, limit: ChartLimits, check_canceled: Callable[[], object] = lambda: None
) -> Ints:
    """Merge small charts with the neighbour with which they are roundest; int64 [faces], numbered from 0.

    Args:
        chart: int64 [faces].
        check_canceled: is called in every round; what it raises passes through.
    """
    normals, charts = normalize(faces.normals), faces.merge(chart)
    refused = np.empty((0, 2), dtype=np.int64)
    while True:
        check_canceled()
        pairs = _roundest_pairs(charts, limit, refused)
        if len(pairs) == 0:
            return chart
        # Measure the cone of each pair: the largest angle between a face and the mean normal of both charts.
        axis = normalize(charts.normals)
        axis[pairs] = normalize(charts.normals[pairs].sum(axis=1))[:, None]
        affected = np.flatnonzero(np.isin(np.arange(len(axis)), pairs)[chart])
        least_cosine = np.ones(len(axis))
        cosine = np.einsum("fd,fd->f", normals[affected], axis[chart[affected]])
        np.minimum.at(least_cosine, chart[affected], cosine)
        fits = least_cosine[pairs].min(axis=1) >= np.cos(limit.cone_rad)
        # Merge the pairs that fit. The others are refused until one of the two changes.
        root = np.arange(len(axis))
        root[pairs[fits, 1]] = pairs[fits, 0]
        label = _number_roots(root)
        refused = np.concatenate([refused, pairs[~fits]])
        refused = label[refused[~np.isin(refused, pairs[fits]).any(axis=1)]]
        chart, charts = label[chart], charts.merge(label)


def _roundest_pairs(charts: Patches, limit: ChartLimits, refused: Ints) -> Ints:
    """Return pairs of charts that are each other's roundest partner, except refused pairs; [pairs, 2]."""
    i, j = charts.pairs.T
    count = len(charts.areas)
    area = charts.areas[charts.pairs]
    allowed = (area.sum(axis=1) <= limit.max_area) & (area.min(axis=1) <= limit.small_area)
    allowed &= ~np.isin(i * count + j, refused.min(axis=1) * count + refused.max(axis=1))
    root = _match(charts.pairs[allowed], _roughness(charts)[allowed], count)
    merged = np.flatnonzero(root != np.arange(count))
    return np.stack([root[merged], merged], axis=1)


def _roughness(charts: Patches) -> Floats:
    """Return each pair's outline, relative to that of a circle with the same area; [pairs]."""
    i, j = charts.pairs.T
    outline = charts.outlines[i] + charts.outlines[j] - 2 * charts.borders
    area = np.maximum(charts.areas[i] + charts.areas[j], 1e-30)
    roughness: Floats = np.abs(outline) / np.sqrt(4 * np.pi * area)
    return roughness


def _match(pairs: Ints, cost: Floats, count: int) -> Ints:
    """Match charts that propose to each other: the second's root becomes the first; int64 [charts]."""
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[np.argsort(cost, kind="stable")] = np.arange(len(pairs))
    proposal = np.full(count, len(pairs))
    for side in pairs.T:
        np.minimum.at(proposal, side, rank)
    accepted = (proposal[pairs[:, 0]] == rank) & (proposal[pairs[:, 1]] == rank)
    root = np.arange(count)
    root[pairs[accepted, 1]] = pairs[accepted, 0]
    return root


def _number_roots(root: Ints) -> Ints:
    """Number the roots from 0, and return the number of each chart's root."""
    number = np.cumsum(root == np.arange(len(root))) - 1
    return number[root]


def smooth_boundaries(faces: Patches, chart: Ints, cone_rad: float, device: str) -> Ints:
    """Shorten the boundaries between charts; int64 [faces], numbered from 0 without charts that vanish.

    Args:
        chart: int64 [faces].
        cone_rad: largest angle between a face's normal and the mean normal of the chart to which it changes.
    """
    if len(faces.pairs) == 0:
        return chart
    count = len(chart)
    neighbours = wp.full((count, 3), -1, dtype=wp.int32, device=device)
    borders = wp.zeros((count, 3), dtype=wp.float32, device=device)
    used = wp.zeros(count, dtype=wp.int32, device=device)
    lengths = wp.array(faces.borders, dtype=wp.float32, device=device)
    inputs: list[Any] = [to_int32(faces.pairs, device), lengths, used, neighbours, borders]
    wp.launch(_list_neighbours, dim=len(faces.pairs), inputs=inputs, device=device)
    directions = normalize(faces.normals), normalize(faces.merge(chart).normals)
    normals, axes = (wp.array(rows, dtype=wp.vec3, device=device) for rows in directions)
    before, after = to_int32(chart, device), wp.empty(count, dtype=wp.int32, device=device)
    for number in range(ROUNDS):
        inputs = [neighbours, borders, normals, axes, float(np.cos(cone_rad)), number % 2, before, after]
        wp.launch(_change_charts, dim=count, inputs=inputs, device=device)
        before, after = after, before
    changed: NDArray[np.int64] = np.unique(before.numpy(), return_inverse=True)[1].astype(np.int64)
    return changed


@wp.kernel
def _list_neighbours(
    pairs: wp.array2d[wp.int32],
    lengths: wp.array[wp.float32],
    used: wp.array[wp.int32],
    neighbours: wp.array2d[wp.int32],
    borders: wp.array2d[wp.float32],
) -> None:
    """List each face's up to three neighbours, in any order."""
    pair = wp.tid()
    for side in range(2):
        face = pairs[pair, side]
        column = wp.atomic_add(used, face, 1)
        neighbours[face, column] = pairs[pair, 1 - side]
        borders[face, column] = lengths[pair]


@wp.kernel
def _change_charts(
    neighbours: wp.array2d[wp.int32],
    borders: wp.array2d[wp.float32],
    normals: wp.array[wp.vec3],
    axes: wp.array[wp.vec3],
    least_cosine: wp.float32,
    upward: wp.int32,
    before: wp.array[wp.int32],
    after: wp.array[wp.int32],
) -> None:
    """Choose each face's next chart; a round allows changes to higher or to lower numbers only, so none swap."""
    # Measure the face's border with its own chart.
    face = wp.tid()
    own = before[face]
    chosen = own
    longest = float(0.0)
    for column in range(3):
        if neighbours[face, column] >= 0 and before[neighbours[face, column]] == own:
            longest += borders[face, column]
    for column in range(3):
        if neighbours[face, column] >= 0:
            # Consider the neighbour's chart, in the direction of this round and within the cone.
            chart = before[neighbours[face, column]]
            if chart != own and (chart > own) == (upward == 1) and wp.dot(normals[face], axes[chart]) >= least_cosine:
                # Measure the border with it; another neighbour may belong to it as well.
                length = float(0.0)
                for side in range(3):
                    if neighbours[face, side] >= 0 and before[neighbours[face, side]] == chart:
                        length += borders[face, side]
                # Take the longest border, of equals the lowest chart; a tie with the own chart changes nothing.
                if length > longest or (length == longest and chosen != own and chart < chosen):
                    longest = length
                    chosen = chart
    after[face] = chosen
