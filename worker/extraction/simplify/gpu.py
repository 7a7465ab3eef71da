"""Fewer triangles for the same shape on the GPU: in each round every neighbourhood collapses its cheapest edge.

Quadric error metrics after Garland and Heckbert, 1997. Edges whose ends share no face collapse together. Whole
numbers decide which (costs in steps of a quarter octave, equal ones in a scattered order), so that the outcome does
not depend on the order in which threads run.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32, to_vec3
from worker.extraction.mesh.adjacency import vertex_corners
from worker.extraction.mesh.compaction import compact_indices
from worker.extraction.model.asset import ProgressCallback

if TYPE_CHECKING:
    Quadric = Any
else:
    Quadric = wp.types.vector(length=10, dtype=wp.float64)

NEVER = wp.constant(wp.int64(2**62))
FIRST_MIX = wp.constant(wp.uint32(0x85EBCA6B))
SECOND_MIX = wp.constant(wp.uint32(0xC2B2AE35))
STEPS = 512  # of cost
SHARE = 0.3  # of the edges, the cheapest, that a round may choose from
MOST_NEIGHBOURS = 28  # of an edge's two ends together
LENGTH_WEIGHT = wp.constant(wp.float64(1e-6))  # where the surface is flat, short edges go first
HOLD = wp.constant(wp.float64(1e-5))  # how firmly the new vertex is held at the middle of its edge


def decimate(
    vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, target: int, device: str, step: ProgressCallback
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """About `target` triangles, or more where no further edge can go: float64 [vertices, 3], int32 [faces, 3].

    Works on closed surfaces; edges with one face, or more than two, stay as they are. Arrays that are on the device
    already are changed there.
    """
    place = to_vec3(vertices, device)
    corners = to_int32(faces, device)
    count, begun = len(faces), len(faces)
    quadrics = wp.zeros(len(vertices), dtype=Quadric, device=device)
    first = True
    while count > target:
        step((begun - count) / max(begun - target, 1))
        corner_lists = vertex_corners(corners, len(vertices))
        if first:
            wp.launch(_sum_planes, dim=len(vertices), inputs=[place, corners, *corner_lists, quadrics], device=device)
            first = False
        corners, gone = _round(place, corners, quadrics, corner_lists, (count - target + 1) // 2)
        if gone == 0:
            break
        count = len(corners)
    return _result(place, corners)


def _result(place: wp.array, corners: wp.array) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    used, faces = compact_indices(corners.numpy(), len(place))
    return place.numpy()[used].astype(np.float64), faces


def _round(
    place: wp.array, corners: wp.array, quadrics: wp.array, corner_lists: tuple[Any, ...], most: int
) -> tuple[wp.array, int]:
    """Collapse at most `most` edges; the faces that are left, and how many edges went."""
    device, count = corners.device, corners.size
    keys = wp.empty(count, dtype=wp.int64, device=device)
    histogram = wp.zeros(STEPS, dtype=wp.int32, device=device)
    wp.launch(_offer, dim=count, inputs=[place, corners, quadrics, *corner_lists, keys, histogram], device=device)
    limit = _limit(histogram.numpy(), min(SHARE, max(0.02, 20 * most / count)))
    best = wp.full(len(place), NEVER, dtype=wp.int64, device=device)
    near = wp.full(len(place), NEVER, dtype=wp.int64, device=device)
    wp.launch(_ask, dim=count, inputs=[corners, keys, limit, best], device=device)
    wp.launch(_spread, dim=len(corners), inputs=[corners, best, near], device=device)
    chosen = wp.zeros(count, dtype=wp.int32, device=device)
    wp.launch(_choose, dim=count, inputs=[corners, keys, near, chosen], device=device)
    wp.utils.array_scan(chosen, chosen, inclusive=True)
    gone = min(int(chosen[-1:].numpy()[0]), most)
    rename = wp.full(len(place), -1, dtype=wp.int32, device=device)
    wp.launch(_collapse, dim=count, inputs=[corners, chosen, most, place, quadrics, rename], device=device)
    alive = wp.empty(len(corners), dtype=wp.int32, device=device)
    wp.launch(_rename, dim=len(corners), inputs=[rename, corners, alive], device=device)
    wp.utils.array_scan(alive, alive, inclusive=True)
    left = wp.empty((int(alive[-1:].numpy()[0]), 3), dtype=wp.int32, device=device)
    wp.launch(_keep, dim=len(corners), inputs=[corners, alive, left], device=device)
    return left, gone


def _limit(histogram: NDArray[np.int32], share: float) -> int:
    """The first step of cost past the cheapest `share` of the edges."""
    ends = np.cumsum(histogram, dtype=np.int64)
    return int(np.searchsorted(ends, share * ends[-1])) + 1


@wp.kernel
def _sum_planes(
    place: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    corner: wp.array[wp.int32],
    quadrics: wp.array[Quadric],
) -> None:
    """A vertex's quadric: squared distances from the planes of its faces, weighted by their areas."""
    v = wp.tid()
    total = Quadric()
    for i in range(begin[v], end[v]):
        face = corner[i] / 3
        a = wp.vec3d(place[corners[face, 0]])
        n = wp.cross(wp.vec3d(place[corners[face, 1]]) - a, wp.vec3d(place[corners[face, 2]]) - a)
        double_area = wp.length(n)
        if double_area > wp.float64(0.0):
            n = n / double_area
            d = -wp.dot(n, a)
            total += double_area * Quadric(
                n[0] * n[0], n[0] * n[1], n[0] * n[2], n[0] * d, n[1] * n[1],
                n[1] * n[2], n[1] * d, n[2] * n[2], n[2] * d, d * d,
            )  # fmt: skip
    quadrics[v] = total


@wp.func
def _target(q: Quadric, middle: wp.vec3d) -> wp.vec3d:
    """The place with the least error, held a little at the middle: flat quadrics have no single one."""
    hold = HOLD * (q[0] + q[4] + q[7]) + wp.float64(1.0e-30)
    a = wp.mat33d(q[0] + hold, q[1], q[2], q[1], q[4] + hold, q[5], q[2], q[5], q[7] + hold)
    return wp.inverse(a) * (hold * middle - wp.vec3d(q[3], q[6], q[8]))


@wp.func
def _error(q: Quadric, p: wp.vec3d) -> wp.float64:
    two = wp.float64(2.0)
    return (
        p[0] * (q[0] * p[0] + two * (q[1] * p[1] + q[2] * p[2] + q[3]))
        + p[1] * (q[4] * p[1] + two * (q[5] * p[2] + q[6]))
        + p[2] * (q[7] * p[2] + two * q[8])
        + q[9]
    )


@wp.func
def _spoils(a: wp.vec3, b: wp.vec3, old: wp.vec3, new: wp.vec3) -> wp.bool:
    """Whether face (old, a, b) turns over or becomes a sliver when its corner moves."""
    side = wp.length_sq(b - a)
    n = wp.cross(a - old, b - old)
    m = wp.cross(a - new, b - new)
    before = wp.length(n) / (side + wp.length_sq(a - old) + wp.length_sq(b - old) + 1.0e-30)
    after = wp.length(m) / (side + wp.length_sq(a - new) + wp.length_sq(b - new) + 1.0e-30)
    return wp.dot(n, m) < 0.3 * wp.length(n) * wp.length(m) or (after < 0.04 and after < before)


@wp.func
def _spoils_around(
    place: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    corner: wp.array[wp.int32],
    first: wp.int32,
    past: wp.int32,
    other: wp.int32,
    old: wp.vec3,
    new: wp.vec3,
) -> wp.bool:
    for i in range(first, past):
        face = corner[i] / 3
        column = corner[i] % 3
        a = corners[face, (column + 1) % 3]
        b = corners[face, (column + 2) % 3]
        if a != other and b != other:
            if _spoils(place[a], place[b], old, new):
                return True
    return False


@wp.func
def _common(
    corners: wp.array2d[wp.int32],
    corner: wp.array[wp.int32],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    u: wp.int32,
    v: wp.int32,
) -> wp.int32:
    """How many neighbours two vertices share; around a vertex each neighbour follows it in one face."""
    count = int(0)
    for i in range(begin[u], end[u]):
        a = corners[corner[i] / 3, (corner[i] % 3 + 1) % 3]
        for j in range(begin[v], end[v]):
            if corners[corner[j] / 3, (corner[j] % 3 + 1) % 3] == a:
                count += 1
    return count


@wp.func
def _scattered(number: wp.uint32) -> wp.uint32:
    """A permutation of the 32-bit numbers (the finaliser of MurmurHash3)."""
    h = number
    h = (h ^ (h >> wp.uint32(16))) * FIRST_MIX
    h = (h ^ (h >> wp.uint32(13))) * SECOND_MIX
    return h ^ (h >> wp.uint32(16))


@wp.kernel
def _offer(
    place: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    quadrics: wp.array[Quadric],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    corner: wp.array[wp.int32],
    keys: wp.array[wp.int64],
    histogram: wp.array[wp.int32],
) -> None:
    """What each edge costs, seen from the face in which it runs from the lower vertex; NEVER where it must stay."""
    h = wp.tid()
    keys[h] = NEVER
    u = corners[h / 3, h % 3]
    v = corners[h / 3, (h % 3 + 1) % 3]
    if u >= v:
        return
    neighbours = end[u] - begin[u] + end[v] - begin[v]
    if neighbours < 7 or neighbours > wp.static(MOST_NEIGHBOURS):
        return
    shared = int(0)
    for i in range(begin[u], end[u]):
        face = corner[i] / 3
        if corners[face, 0] == v or corners[face, 1] == v or corners[face, 2] == v:
            shared += 1
    if shared != 2 or _common(corners, corner, begin, end, u, v) != 2:
        return
    q = quadrics[u] + quadrics[v]
    edge = wp.vec3d(place[v]) - wp.vec3d(place[u])
    p = _target(q, wp.vec3d(place[u]) + edge * wp.float64(0.5))
    new = wp.vec3(p)
    if _spoils_around(place, corners, corner, begin[u], end[u], v, place[u], new):
        return
    if _spoils_around(place, corners, corner, begin[v], end[v], u, place[v], new):
        return
    length = wp.dot(edge, edge)
    cost = wp.abs(_error(q, p)) + LENGTH_WEIGHT * (q[0] + q[4] + q[7]) * length
    bucket = wp.clamp(int((wp.log2(wp.float32(cost) + 1.0e-30) + 100.0) * 4.0), 0, wp.static(STEPS - 1))
    keys[h] = (wp.int64(bucket) << wp.int64(32)) | wp.int64(_scattered(wp.uint32(h)))
    wp.atomic_add(histogram, bucket, 1)


@wp.kernel
def _ask(corners: wp.array2d[wp.int32], keys: wp.array[wp.int64], limit: wp.int32, best: wp.array[wp.int64]) -> None:
    h = wp.tid()
    key = keys[h]
    if key == NEVER:
        return
    if int(key >> wp.int64(32)) >= limit:
        keys[h] = NEVER
        return
    wp.atomic_min(best, corners[h / 3, h % 3], key)
    wp.atomic_min(best, corners[h / 3, (h % 3 + 1) % 3], key)


@wp.kernel
def _spread(corners: wp.array2d[wp.int32], best: wp.array[wp.int64], near: wp.array[wp.int64]) -> None:
    face = wp.tid()
    least = wp.min(best[corners[face, 0]], wp.min(best[corners[face, 1]], best[corners[face, 2]]))
    for column in range(3):
        wp.atomic_min(near, corners[face, column], least)


@wp.kernel
def _choose(
    corners: wp.array2d[wp.int32], keys: wp.array[wp.int64], near: wp.array[wp.int64], chosen: wp.array[wp.int32]
) -> None:
    h = wp.tid()
    key = keys[h]
    if key != NEVER and near[corners[h / 3, h % 3]] == key and near[corners[h / 3, (h % 3 + 1) % 3]] == key:
        chosen[h] = 1


@wp.kernel
def _collapse(
    corners: wp.array2d[wp.int32],
    chosen: wp.array[wp.int32],
    most: wp.int32,
    place: wp.array[wp.vec3],
    quadrics: wp.array[Quadric],
    rename: wp.array[wp.int32],
) -> None:
    """`chosen` counts up at every edge that was chosen."""
    h = wp.tid()
    before = int(0)
    if h > 0:
        before = chosen[h - 1]
    if chosen[h] == before or chosen[h] > most:
        return
    u = corners[h / 3, h % 3]
    v = corners[h / 3, (h % 3 + 1) % 3]
    q = quadrics[u] + quadrics[v]
    middle = (wp.vec3d(place[u]) + wp.vec3d(place[v])) * wp.float64(0.5)
    place[u] = wp.vec3(_target(q, middle))
    quadrics[u] = q
    rename[v] = u


@wp.kernel
def _rename(rename: wp.array[wp.int32], corners: wp.array2d[wp.int32], alive: wp.array[wp.int32]) -> None:
    face = wp.tid()
    for column in range(3):
        new = rename[corners[face, column]]
        if new >= 0:
            corners[face, column] = new
    a = corners[face, 0]
    b = corners[face, 1]
    c = corners[face, 2]
    alive[face] = wp.where(a == b or b == c or c == a, 0, 1)


@wp.kernel
def _keep(corners: wp.array2d[wp.int32], ends: wp.array[wp.int32], left: wp.array2d[wp.int32]) -> None:
    face = wp.tid()
    before = int(0)
    if face > 0:
        before = ends[face - 1]
    if ends[face] > before:
        for column in range(3):
            left[before, column] = corners[face, column]
