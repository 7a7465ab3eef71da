"""Simplify a closed mesh on the GPU by parallel edge collapse with quadric error metrics (Garland and Heckbert 1997).

In each round:
1. `_compute_edge_costs`: every edge that may collapse gets a cost, the quadric error at its best new position.
2. `_propose` and `_spread`: every vertex learns the cheapest edge at it, then at its neighbours.
3. `_select`: an edge is selected if it is the cheapest in both its ends' neighbourhoods, so that no two selected edges
   share a face.
4. `_collapse`, `_renumber`, `_keep_faces`: the selected edges collapse, and their faces are dropped.

Costs are compared as integers (steps of a quarter octave; equal ones in a pseudo-random order), so the result does not
depend on the order in which threads run.

An edge in a fold or a neck must not collapse. Where most edges are locked like that, the rounds end, instead of taking
dear edges of the plain areas in their place. The rest is left to the serial queue (`simplify.cpu`): it can cut necks.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32, to_vec3
from worker.extraction.mesh.topology import VertexCorners, compact_indices, next_vertex, vertex_corners
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.simplify.quadrics import Quadric, best_position, edge_cost, plane_quadric

NEVER = wp.constant(wp.int64(2**62))  # the key of an edge that must not collapse
FIRST_MIX = wp.constant(wp.uint32(0x85EBCA6B))
SECOND_MIX = wp.constant(wp.uint32(0xC2B2AE35))
COST_STEPS = 512
ROUND_SHARE = 0.3  # largest part of the edges, the cheapest ones, that a round may select from
MAX_NEIGHBOURS = 28  # of an edge's two ends together
MIN_FREE_SHARE = 0.25  # of the edges; the rounds end where fewer may collapse
# Rounds take edges a little out of order. Up to this target they stop early: the queue is quick enough for the rest.
SERIAL_UP_TO = 200_000
# They stop at the lower of this factor on the target, and this number of faces more.
SERIAL_FACTOR, SERIAL_FACES = 2, 50_000


def decimate(
    vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, target: int, device: str, step: ProgressCallback
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Simplify towards `target` triangles, and leave the rest to the queue; float64 [vertices, 3], int32 [faces, 3].

    Edges with one face, or more than two, stay. Arrays that are on the device already are changed in place.
    """
    if target <= SERIAL_UP_TO:
        target = min(SERIAL_FACTOR * target, target + SERIAL_FACES)
    positions = to_vec3(vertices, device)
    corners = to_int32(faces, device)
    count, initial = len(faces), len(faces)
    quadrics = wp.zeros(len(vertices), dtype=Quadric, device=device)
    first = True
    while count > target:
        step((initial - count) / max(initial - target, 1))
        mesh = vertex_corners(corners, len(vertices))
        if first:
            wp.launch(_sum_plane_quadrics, dim=len(vertices), inputs=[positions, mesh, quadrics], device=device)
            first = False
        most = (count - target + 1) // 2
        corners, collapsed = _run_round(positions, mesh, quadrics, most)
        if collapsed == 0:
            break
        count = len(corners)
    used, kept = compact_indices(corners.numpy(), len(positions))
    return positions.numpy()[used].astype(np.float64), kept


def _run_round(positions: wp.array, mesh: VertexCorners, quadrics: wp.array, most: int) -> tuple[wp.array, int]:
    """Collapse at most `most` edges; return the remaining faces and the number of collapsed edges, 0 at the end."""
    faces = mesh.faces
    device, count = faces.device, faces.size
    keys = wp.empty(count, dtype=wp.int64, device=device)
    histogram = wp.zeros(COST_STEPS, dtype=wp.int32, device=device)
    wp.launch(_compute_edge_costs, dim=count, inputs=[positions, mesh, quadrics, keys, histogram], device=device)
    free = histogram.numpy()
    if free.sum() < MIN_FREE_SHARE * count / 2:
        return faces, 0
    limit = _cost_limit(free, min(ROUND_SHARE, max(0.02, 20 * most / count)))
    best = wp.full(len(positions), NEVER, dtype=wp.int64, device=device)
    near = wp.full(len(positions), NEVER, dtype=wp.int64, device=device)
    wp.launch(_propose, dim=count, inputs=[faces, keys, limit, best], device=device)
    wp.launch(_spread, dim=len(faces), inputs=[faces, best, near], device=device)
    selected = wp.zeros(count, dtype=wp.int32, device=device)
    wp.launch(_select, dim=count, inputs=[faces, keys, near, selected], device=device)
    wp.utils.array_scan(selected, selected, inclusive=True)
    collapsed = min(int(selected[-1:].numpy()[0]), most)
    target = wp.full(len(positions), -1, dtype=wp.int32, device=device)
    wp.launch(_collapse, dim=count, inputs=[faces, selected, most, positions, quadrics, target], device=device)
    kept = wp.empty(len(faces), dtype=wp.int32, device=device)
    wp.launch(_renumber, dim=len(faces), inputs=[target, faces, kept], device=device)
    wp.utils.array_scan(kept, kept, inclusive=True)
    remaining = wp.empty((int(kept[-1:].numpy()[0]), 3), dtype=wp.int32, device=device)
    wp.launch(_keep_faces, dim=len(faces), inputs=[faces, kept, remaining], device=device)
    return remaining, collapsed


def _cost_limit(histogram: NDArray[np.int32], share: float) -> int:
    """Return the first cost step above the cheapest `share` of the edges."""
    ends = np.cumsum(histogram, dtype=np.int64)
    return int(np.searchsorted(ends, share * ends[-1])) + 1


@wp.kernel
def _sum_plane_quadrics(positions: wp.array[wp.vec3], mesh: VertexCorners, quadrics: wp.array[Quadric]) -> None:
    """Sum one vertex's quadric: squared distances from the planes of its faces, weighted by their double areas."""
    v = wp.tid()
    total = Quadric()
    for i in range(mesh.begin[v], mesh.end[v]):
        # The face's plane.
        face = mesh.corner[i] / 3
        a = wp.vec3d(positions[mesh.faces[face, 0]])
        n = wp.cross(wp.vec3d(positions[mesh.faces[face, 1]]) - a, wp.vec3d(positions[mesh.faces[face, 2]]) - a)
        double_area = wp.length(n)
        if double_area > wp.float64(0.0):
            total += plane_quadric(n / double_area, a, double_area)
    quadrics[v] = total


@wp.func
def _flips_or_slivers(a: wp.vec3, b: wp.vec3, old: wp.vec3, new: wp.vec3) -> wp.bool:
    """Return whether face (old, a, b) flips over or becomes a sliver when its corner moves from `old` to `new`."""
    side = wp.length_sq(b - a)
    n = wp.cross(a - old, b - old)
    m = wp.cross(a - new, b - new)
    # Shape: double area over the sum of the squared sides; 0.29 for an equilateral triangle.
    before = wp.length(n) / (side + wp.length_sq(a - old) + wp.length_sq(b - old) + 1.0e-30)
    after = wp.length(m) / (side + wp.length_sq(a - new) + wp.length_sq(b - new) + 1.0e-30)
    return wp.dot(n, m) < 0.3 * wp.length(n) * wp.length(m) or (after < 0.04 and after < before)


@wp.func
def _damages_faces(
    positions: wp.array[wp.vec3], mesh: VertexCorners, vertex: wp.int32, partner: wp.int32, new: wp.vec3
) -> wp.bool:
    """Test the faces at one end of an edge, without the two that vanish with it: those that have the other end too."""
    for i in range(mesh.begin[vertex], mesh.end[vertex]):
        face = mesh.corner[i] / 3
        column = mesh.corner[i] % 3
        a = mesh.faces[face, (column + 1) % 3]
        b = mesh.faces[face, (column + 2) % 3]
        if a != partner and b != partner:
            if _flips_or_slivers(positions[a], positions[b], positions[vertex], new):
                return True
    return False


@wp.func
def _count_common(mesh: VertexCorners, u: wp.int32, v: wp.int32) -> wp.int32:
    """Count the neighbours that two vertices share; on a closed mesh each neighbour follows a vertex in one face."""
    count = int(0)
    for i in range(mesh.begin[u], mesh.end[u]):
        a = next_vertex(mesh.faces, mesh.corner[i])
        for j in range(mesh.begin[v], mesh.end[v]):
            if next_vertex(mesh.faces, mesh.corner[j]) == a:
                count += 1
    return count


@wp.func
def _scrambled(number: wp.uint32) -> wp.uint32:
    """Permute the 32-bit numbers pseudo-randomly (the finalizer of MurmurHash3)."""
    h = number
    h = (h ^ (h >> wp.uint32(16))) * FIRST_MIX
    h = (h ^ (h >> wp.uint32(13))) * SECOND_MIX
    return h ^ (h >> wp.uint32(16))


@wp.kernel
def _compute_edge_costs(
    positions: wp.array[wp.vec3],
    mesh: VertexCorners,
    quadrics: wp.array[Quadric],
    keys: wp.array[wp.int64],
    histogram: wp.array[wp.int32],
) -> None:
    """Compute the key of one half-edge: cost step in the upper 32 bits, pseudo-random order in the lower."""
    h = wp.tid()
    keys[h] = NEVER
    # 1. One thread per edge: the half-edge that starts at its lower vertex.
    u = mesh.faces[h / 3, h % 3]
    v = next_vertex(mesh.faces, h)
    if u >= v:
        return
    # 2. The best position of the new vertex, and the cost in logarithmic steps.
    q = quadrics[u] + quadrics[v]
    edge = wp.vec3d(positions[v]) - wp.vec3d(positions[u])
    p = best_position(q, wp.vec3d(positions[u]) + edge * wp.float64(0.5))
    cost = edge_cost(q, p, edge)
    bucket = wp.clamp(int((wp.log2(wp.float32(cost) + 1.0e-30) + 100.0) * 4.0), 0, wp.static(COST_STEPS - 1))
    # 3. Vertices with too few neighbours would leave a tetrahedron, with too many a fan of thin faces.
    neighbours = mesh.end[u] - mesh.begin[u] + mesh.end[v] - mesh.begin[v]
    if neighbours < 7 or neighbours > wp.static(MAX_NEIGHBOURS):
        return
    # 4. The link condition (Dey et al. 1999): two faces at the edge and two common neighbours, else the mesh would
    #    stop being manifold.
    shared = int(0)
    for i in range(mesh.begin[u], mesh.end[u]):
        face = mesh.corner[i] / 3
        if mesh.faces[face, 0] == v or mesh.faces[face, 1] == v or mesh.faces[face, 2] == v:
            shared += 1
    if shared != 2 or _count_common(mesh, u, v) != 2:
        return
    # 5. The faces at both ends must not flip over.
    new = wp.vec3(p)
    if _damages_faces(positions, mesh, u, v, new):
        return
    if _damages_faces(positions, mesh, v, u, new):
        return
    wp.atomic_add(histogram, bucket, 1)
    keys[h] = (wp.int64(bucket) << wp.int64(32)) | wp.int64(_scrambled(wp.uint32(h)))


@wp.kernel
def _propose(faces: wp.array2d[wp.int32], keys: wp.array[wp.int64], limit: wp.int32, best: wp.array[wp.int64]) -> None:
    """Offer one edge to both its ends, which keep the cheapest; drop it for this round if it is over the limit."""
    h = wp.tid()
    key = keys[h]
    if key == NEVER:
        return
    if int(key >> wp.int64(32)) >= limit:
        keys[h] = NEVER
        return
    wp.atomic_min(best, faces[h / 3, h % 3], key)
    wp.atomic_min(best, next_vertex(faces, h), key)


@wp.kernel
def _spread(faces: wp.array2d[wp.int32], best: wp.array[wp.int64], near: wp.array[wp.int64]) -> None:
    """Give one face's three vertices the cheapest key of any of them."""
    face = wp.tid()
    least = wp.min(best[faces[face, 0]], wp.min(best[faces[face, 1]], best[faces[face, 2]]))
    for column in range(3):
        wp.atomic_min(near, faces[face, column], least)


@wp.kernel
def _select(
    faces: wp.array2d[wp.int32], keys: wp.array[wp.int64], near: wp.array[wp.int64], selected: wp.array[wp.int32]
) -> None:
    """Select one edge if it is the cheapest in the neighbourhoods of both its ends."""
    h = wp.tid()
    key = keys[h]
    if key != NEVER and near[faces[h / 3, h % 3]] == key and near[next_vertex(faces, h)] == key:
        selected[h] = 1


@wp.kernel
def _collapse(
    faces: wp.array2d[wp.int32],
    selected: wp.array[wp.int32],
    most: wp.int32,
    positions: wp.array[wp.vec3],
    quadrics: wp.array[Quadric],
    target: wp.array[wp.int32],
) -> None:
    """Collapse one edge into its first vertex. selected: the inclusive prefix sum of the selection."""
    h = wp.tid()
    # 1. The prefix sum rises at a selected edge; past `most` the round is full.
    before = int(0)
    if h > 0:
        before = selected[h - 1]
    if selected[h] == before or selected[h] > most:
        return
    # 2. Move the first vertex to the best position, with both quadrics.
    u = faces[h / 3, h % 3]
    v = next_vertex(faces, h)
    q = quadrics[u] + quadrics[v]
    middle = (wp.vec3d(positions[u]) + wp.vec3d(positions[v])) * wp.float64(0.5)
    positions[u] = wp.vec3(best_position(q, middle))
    quadrics[u] = q
    # 3. Replace the second vertex by the first.
    target[v] = u


@wp.kernel
def _renumber(target: wp.array[wp.int32], faces: wp.array2d[wp.int32], kept: wp.array[wp.int32]) -> None:
    """Replace one face's collapsed vertices; keep the face if its three vertices are still different."""
    face = wp.tid()
    for column in range(3):
        new = target[faces[face, column]]
        if new >= 0:
            faces[face, column] = new
    a = faces[face, 0]
    b = faces[face, 1]
    c = faces[face, 2]
    kept[face] = wp.where(a == b or b == c or c == a, 0, 1)


@wp.kernel
def _keep_faces(faces: wp.array2d[wp.int32], ends: wp.array[wp.int32], remaining: wp.array2d[wp.int32]) -> None:
    """Copy one face to its row if it is kept. ends: the inclusive prefix sum of `kept`."""
    face = wp.tid()
    before = int(0)
    if face > 0:
        before = ends[face - 1]
    if ends[face] > before:
        for column in range(3):
            remaining[before, column] = faces[face, column]
