"""Segment a mesh into charts: connected patches that are flat enough to be projected onto a plane.

Hierarchical clustering of faces on the face adjacency graph (Garland, Willmott and Heckbert, Hierarchical Face
Clustering on Polygonal Surfaces, 2001), in parallel rounds instead of with a priority queue: each patch proposes to the
neighbour with which the merge costs least, and two patches that propose to each other merge. The cheapest pair of all
always merges, so every round makes progress; about forty rounds are needed.

The cost of a merge is the angle of the normal cone of both, relative to the limit, plus ROUGHNESS_WEIGHT times the
length of the merged boundary relative to that of a circle with the same area. Pairs of equal cost are ordered by their
index, and every merged patch is the sum of at most two, so the result does not depend on the order of threads: equal
meshes give equal charts, on the CPU and on a GPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.uv.patches import ChartLimits, Patches

ROUGHNESS_WEIGHT = 2.0  # of a ragged outline, relative to the bend of the patch
NO_MERGE = wp.constant(wp.float64(1e300))  # the cost of a pair that may not merge
NO_PAIR = wp.constant(wp.int32(2**31 - 1))
SMALL = wp.constant(wp.float64(1e-30))


def cluster(
    faces: Patches,
    *limits: ChartLimits,
    device: str = "cpu",
    check_canceled: Callable[[], object] = lambda: None,
) -> NDArray[np.int64]:
    """Merge faces into charts; int64 [faces], charts numbered from 0.

    Args:
        limits: are applied in order, each until no two patches can merge within it.
        check_canceled: is called in every round; what it raises passes through.
    """
    count = len(faces.areas)
    graph = _new_graph(count, len(faces.pairs), device)
    for name in ("areas", "normals", "outlines", "pairs", "borders"):
        getattr(graph, name).assign(getattr(faces, name))
    normals = graph.normals
    chart = _range(count, device)
    for limit in limits:
        rule = [limit.cone_rad, limit.max_area, limit.small_area, ROUGHNESS_WEIGHT]
        while len(graph.pairs):
            check_canceled()
            label, merged_count = _match(graph, normals, chart, rule)
            if merged_count == len(graph.areas):
                break
            graph = _merge(graph, label, merged_count)
            wp.launch(_relabel_faces, dim=count, inputs=[label, chart], device=device)
    charts: NDArray[np.int32] = chart.numpy()
    return charts.astype(np.int64)


@wp.struct
class _Graph:
    """`Patches` on the device."""

    areas: wp.array[wp.float64]
    normals: wp.array[wp.vec3d]
    outlines: wp.array[wp.float64]
    pairs: wp.array2d[wp.int32]
    borders: wp.array[wp.float64]


def _new_graph(patches: int, pairs: int, device: Any) -> _Graph:
    """Return a graph whose patches are empty and whose pairs are not set."""
    graph = _Graph()
    graph.areas = wp.zeros(patches, dtype=wp.float64, device=device)
    graph.normals = wp.zeros(patches, dtype=wp.vec3d, device=device)
    graph.outlines = wp.zeros(patches, dtype=wp.float64, device=device)
    graph.pairs = wp.empty((pairs, 2), dtype=wp.int32, device=device)
    graph.borders = wp.empty(pairs, dtype=wp.float64, device=device)
    return graph


def _range(count: int, device: Any) -> wp.array:
    return wp.array(np.arange(count, dtype=np.int32), dtype=wp.int32, device=device)


def _match(graph: _Graph, normals: wp.array, chart: wp.array, rule: list[float]) -> tuple[wp.array, int]:
    """Return the merged patch that each patch becomes part of, int32 [patches], and the number of merged patches.

    normals: vec3d [faces]. chart: int32 [faces], the patch of each face. rule: the limit and the weight of roughness.
    """
    device, count, pairs = graph.areas.device, len(graph.areas), len(graph.pairs)
    least_cosine = wp.full(count, 1.0, dtype=wp.float64, device=device)
    wp.launch(_measure_cone, dim=len(chart), inputs=[normals, chart, graph, least_cosine], device=device)
    cost = wp.empty(pairs, dtype=wp.float64, device=device)
    least_cost = wp.full(count, NO_MERGE, dtype=wp.float64, device=device)
    wp.launch(_price, dim=pairs, inputs=[graph, least_cosine, *rule, cost, least_cost], device=device)
    proposal = wp.full(count, NO_PAIR, dtype=wp.int32, device=device)
    wp.launch(_propose, dim=pairs, inputs=[graph, cost, least_cost, proposal], device=device)
    root = _range(count, device)
    wp.launch(_accept, dim=pairs, inputs=[graph, proposal, root], device=device)
    ends = wp.empty(count, dtype=wp.int32, device=device)
    wp.launch(_mark_roots, dim=count, inputs=[root, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    label = wp.empty(count, dtype=wp.int32, device=device)
    wp.launch(_number_roots, dim=count, inputs=[root, ends, label], device=device)
    return label, int(ends[-1:].numpy()[0])


def _merge(graph: _Graph, label: wp.array, count: int) -> _Graph:
    """Merge patches with equal labels; `Patches.merge` on the device."""
    device, pairs = graph.areas.device, len(graph.pairs)
    merged = _new_graph(count, pairs, device)
    wp.launch(_sum_patches, dim=len(label), inputs=[label, graph, merged], device=device)
    keys = wp.empty(2 * pairs, dtype=wp.int64, device=device)  # twice as many: the sort needs a second buffer
    order = wp.empty(2 * pairs, dtype=wp.int32, device=device)
    wp.launch(_relabel_pairs, dim=pairs, inputs=[label, graph, merged, keys, order], device=device)
    wp.utils.radix_sort_pairs(keys, order, pairs, end_bit=(count * count).bit_length())
    ends = wp.empty(pairs, dtype=wp.int32, device=device)
    wp.launch(_mark_firsts, dim=pairs, inputs=[keys, count, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    wp.launch(_sum_borders, dim=pairs, inputs=[keys, order, ends, graph, merged], device=device)
    merged_pairs = int(ends[-1:].numpy()[0])
    merged.pairs, merged.borders = merged.pairs[:merged_pairs], merged.borders[:merged_pairs]
    return merged


@wp.func
def _unit(v: wp.vec3d) -> wp.vec3d:
    return v / wp.max(wp.length(v), SMALL)


@wp.func
def _angle(cosine: wp.float64) -> wp.float64:
    return wp.acos(wp.clamp(cosine, wp.float64(-1.0), wp.float64(1.0)))


@wp.kernel
def _relabel_faces(label: wp.array[wp.int32], chart: wp.array[wp.int32]) -> None:
    face = wp.tid()
    chart[face] = label[chart[face]]


@wp.kernel
def _measure_cone(
    faces: wp.array[wp.vec3d],
    chart: wp.array[wp.int32],
    graph: _Graph,
    least_cosine: wp.array[wp.float64],
) -> None:
    """Compute the normal cone of each patch: the least cosine between a face's normal and the mean normal."""
    face = wp.tid()
    cosine = wp.dot(_unit(faces[face]), _unit(graph.normals[chart[face]]))
    wp.atomic_min(least_cosine, chart[face], cosine)


@wp.kernel
def _price(
    graph: _Graph,
    least_cosine: wp.array[wp.float64],
    cone_rad: wp.float64,
    max_area: wp.float64,
    small_area: wp.float64,
    roughness_weight: wp.float64,
    cost: wp.array[wp.float64],
    least_cost: wp.array[wp.float64],
) -> None:
    """Compute the cost of merging each pair, and the least cost of each patch."""
    pair = wp.tid()
    cost[pair] = NO_MERGE
    i = graph.pairs[pair, 0]
    j = graph.pairs[pair, 1]
    # Bound the merged normal cone: each patch's cone, rotated from its own axis to the common axis.
    axis = _unit(graph.normals[i] + graph.normals[j])
    bend = wp.max(
        _angle(wp.dot(axis, _unit(graph.normals[i]))) + _angle(least_cosine[i]),
        _angle(wp.dot(axis, _unit(graph.normals[j]))) + _angle(least_cosine[j]),
    )
    # Apply the limits.
    area = graph.areas[i] + graph.areas[j]
    if bend > cone_rad or area > max_area or wp.min(graph.areas[i], graph.areas[j]) > small_area:
        return
    # Compare the merged outline with that of a circle of the same area: 2 sqrt(pi area) long.
    outline = wp.abs(graph.outlines[i] + graph.outlines[j] - wp.float64(2.0) * graph.borders[pair])
    roughness = outline / wp.sqrt(wp.float64(12.566370614359172) * wp.max(area, SMALL))
    cost[pair] = bend / cone_rad + roughness_weight * roughness
    wp.atomic_min(least_cost, i, cost[pair])
    wp.atomic_min(least_cost, j, cost[pair])


@wp.kernel
def _propose(
    graph: _Graph,
    cost: wp.array[wp.float64],
    least_cost: wp.array[wp.float64],
    proposal: wp.array[wp.int32],
) -> None:
    """Find each patch's cheapest pair, the lowest of equals."""
    pair = wp.tid()
    if cost[pair] < NO_MERGE:
        for side in range(2):
            if cost[pair] == least_cost[graph.pairs[pair, side]]:
                wp.atomic_min(proposal, graph.pairs[pair, side], pair)


@wp.kernel
def _accept(graph: _Graph, proposal: wp.array[wp.int32], root: wp.array[wp.int32]) -> None:
    """Make the first patch of a pair that both sides propose the root of the second."""
    pair = wp.tid()
    if proposal[graph.pairs[pair, 0]] == pair and proposal[graph.pairs[pair, 1]] == pair:
        root[graph.pairs[pair, 1]] = graph.pairs[pair, 0]


@wp.kernel
def _mark_roots(root: wp.array[wp.int32], ends: wp.array[wp.int32]) -> None:
    patch = wp.tid()
    ends[patch] = wp.where(root[patch] == patch, 1, 0)


@wp.kernel
def _number_roots(root: wp.array[wp.int32], ends: wp.array[wp.int32], label: wp.array[wp.int32]) -> None:
    """Label each patch with the number of its root. ends: how many roots there are up to each patch."""
    patch = wp.tid()
    label[patch] = ends[root[patch]] - 1


@wp.kernel
def _sum_patches(label: wp.array[wp.int32], graph: _Graph, merged: _Graph) -> None:
    patch = wp.tid()
    new = label[patch]
    wp.atomic_add(merged.areas, new, graph.areas[patch])
    wp.atomic_add(merged.normals, new, graph.normals[patch])
    wp.atomic_add(merged.outlines, new, graph.outlines[patch])


@wp.kernel
def _relabel_pairs(
    label: wp.array[wp.int32], graph: _Graph, merged: _Graph, keys: wp.array[wp.int64], order: wp.array[wp.int32]
) -> None:
    """Compute a sort key from the new labels; a pair that merged gets the highest key."""
    pair = wp.tid()
    i = label[graph.pairs[pair, 0]]
    j = label[graph.pairs[pair, 1]]
    count = wp.int64(merged.areas.shape[0])
    order[pair] = pair
    keys[pair] = wp.int64(wp.min(i, j)) * count + wp.int64(wp.max(i, j))
    if i == j:
        keys[pair] = count * count
        # The common border is no longer part of the outline, on either side.
        wp.atomic_sub(merged.outlines, i, wp.float64(2.0) * graph.borders[pair])


@wp.kernel
def _mark_firsts(keys: wp.array[wp.int64], count: wp.int32, ends: wp.array[wp.int32]) -> None:
    """Mark the first of equal keys; pairs that merged are not marked."""
    i = wp.tid()
    ends[i] = 0
    if keys[i] < wp.int64(count) * wp.int64(count):
        if i == 0 or keys[i - 1] != keys[i]:
            ends[i] = 1


@wp.kernel
def _sum_borders(
    keys: wp.array[wp.int64], order: wp.array[wp.int32], ends: wp.array[wp.int32], graph: _Graph, merged: _Graph
) -> None:
    """Write one pair for each distinct key, with the sum of its borders."""
    # Only the thread at the first of equal keys continues.
    i = wp.tid()
    key = keys[i]
    count = wp.int64(merged.areas.shape[0])
    if key == count * count:
        return
    if i > 0:
        if keys[i - 1] == key:
            return
    # Decode the labels from the key.
    new = ends[i] - 1
    merged.pairs[new, 0] = wp.int32(key / count)
    merged.pairs[new, 1] = wp.int32(key % count)
    # Add the borders in the order of their pairs.
    total = wp.float64(0.0)
    at = int(i)
    while at < ends.shape[0]:
        if keys[at] != key:
            break
        total += graph.borders[order[at]]
        at += 1
    merged.borders[new] = total
