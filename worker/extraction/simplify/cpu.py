"""Simplify a mesh on the CPU by serial edge collapse with quadric error metrics (Garland and Heckbert 1997).

A priority queue gives the cheapest edge of the whole mesh. Its cost is computed once more when its turn comes: with the
harm that the collapse would do to the faces around it, and if two parts of the surface meet in a neck that the collapse
would pinch, with the cost of cutting the neck. An edge that has become dearer goes back into the queue. So tiny folds,
necks and parts go when their turn comes, and the large plain areas keep their triangles.

Two linked faces meet at every edge before and after each step (`euler_operators`), so a closed mesh stays closed.

Libraries that were rejected, with figures: docs/decisions/0012.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.mesh.topology import compact_indices
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.simplify import linked_mesh as lm
from worker.extraction.simplify.edge_queue import EdgeQueue, bucket_of, empty_queue, insert, lowest_edge, remove
from worker.extraction.simplify.euler_operators import can_cut, cut_cycle, remove_component
from worker.extraction.simplify.linked_mesh import NONE, LinkedMesh
from worker.extraction.simplify.quadrics import Quadric, best_position, edge_cost
from worker.extraction.simplify.vertex_quadrics import (
    VertexQuadrics,
    collapse_with_quadrics,
    copy_quadrics,
    edge_quadric,
    sum_quadrics,
)

STEPS_PER_LAUNCH = 50_000  # a fifth of a second; between launches a cancel takes effect
MAX_FACES = 24  # at the new vertex; more make a fan of thin faces
CROWDED, SLIVER, FLIPPED = (wp.constant(wp.float64(factor)) for factor in (4.0, 4.0, 32.0))  # factors on a cost

# What `_evaluate` finds to do at an edge.
NOTHING, COLLAPSE, CUT, REMOVE = (wp.constant(number) for number in range(4))


@wp.struct
class Step:
    """What to do at an edge, and for how much.

    cost: m^4. position: of the vertex that remains of a collapsed edge. second, third: the half-edges that close the
    cycle of the neck to cut.
    """

    action: wp.int32
    cost: wp.float64
    position: wp.vec3d
    second: wp.int32
    third: wp.int32


def simplify(
    vertices: NDArray[Any], faces: NDArray[np.int32], target: int, report: ProgressCallback
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Simplify to at most `target` triangles: float64 [vertices, 3], int32 [faces, 3]. Equal meshes give equal bits.

    A mesh that edge collapse cannot bring there, such as loose triangles, is clustered instead.

    Args:
        vertices: float [vertices, 3], metres. report: called with the completed part; what it raises passes through.
    """
    if len(faces) <= target:
        return np.ascontiguousarray(vertices, dtype=np.float64), np.ascontiguousarray(faces, dtype=np.int32)
    positions, remaining = _collapse(vertices, faces, target, report)
    if len(remaining) > target:
        return _cluster_vertices(positions, remaining, target)
    return positions, remaining


def _collapse(
    vertices: NDArray[Any], faces: NDArray[np.int32], target: int, report: ProgressCallback
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    mesh = lm.link_mesh(vertices, faces)
    quadrics = sum_quadrics(mesh)
    queue = empty_queue(len(mesh.half_edges))
    wp.launch(_queue_all, dim=1, inputs=[mesh, quadrics, queue], device="cpu")
    before = count = len(faces)
    is_exhausted = wp.zeros(1, dtype=wp.int32, device="cpu")
    while count > target and not is_exhausted.numpy()[0]:
        report((before - count) / (before - target))
        inputs = [mesh, quadrics, queue, target, STEPS_PER_LAUNCH, is_exhausted]
        wp.launch(_run_steps, dim=1, inputs=inputs, device="cpu")
        count = int(mesh.count.numpy()[0])
    used, kept = compact_indices(lm.list_faces(mesh), len(mesh.vertices))
    return mesh.vertices.numpy()["position"][used], kept


def _cluster_vertices(
    vertices: NDArray[np.float64], faces: NDArray[Any], target: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Merge the vertices in each cell of the finest grid that reaches the target (Rossignac and Borrel 1993)."""
    coarse, fine = float(np.ptp(vertices, axis=0).max()), 0.0
    best = vertices[:0], faces[:0]
    for _ in range(12):
        cell = (coarse + fine) / 2
        _, cell_of_vertex, count = np.unique(np.floor(vertices / cell), axis=0, return_inverse=True, return_counts=True)
        merged = cell_of_vertex.reshape(-1)[faces]
        a, b, c = np.sort(merged, axis=1).T
        _, first = np.unique(np.stack([a, b, c], axis=1)[(a != b) & (b != c)], axis=0, return_index=True)
        kept = merged[(a != b) & (b != c)][np.sort(first)]
        if len(kept) > target:
            fine = cell
            continue
        coarse = cell
        sums = [np.bincount(cell_of_vertex.reshape(-1), vertices[:, axis]) for axis in range(3)]
        best = np.stack(sums, axis=1) / count[:, None], kept
    return best[0], best[1].astype(np.int32)


@wp.func
def _insert_new(mesh: LinkedMesh, quadrics: VertexQuadrics, queue: EdgeQueue, half_edge: wp.int32) -> None:
    """Queue an edge by its error alone: what else a collapse costs is found when its turn comes."""
    edge = lm.representative(mesh, half_edge)
    u = mesh.half_edges[edge].vertex
    v = mesh.half_edges[lm.next_corner(edge)].vertex
    along = mesh.vertices[v].position - mesh.vertices[u].position
    q = edge_quadric(mesh, quadrics, edge)
    p = best_position(q, mesh.vertices[u].position + along * wp.float64(0.5))
    remove(queue, edge)
    insert(queue, edge, bucket_of(edge_cost(q, p, along)))


@wp.func
def _insert_around(mesh: LinkedMesh, quadrics: VertexQuadrics, queue: EdgeQueue, v: wp.int32) -> None:
    """Queue all edges at a vertex."""
    first = lm.first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        _insert_new(mesh, quadrics, queue, c)
        if mesh.half_edges[lm.previous_corner(c)].twin < 0:
            _insert_new(mesh, quadrics, queue, lm.previous_corner(c))
        c = lm.following_corner(mesh, c, first)


@wp.func
def _remove_around(mesh: LinkedMesh, queue: EdgeQueue, v: wp.int32) -> None:
    """Take all edges at a vertex out of the queue."""
    first = lm.first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        remove(queue, lm.representative(mesh, c))
        remove(queue, lm.representative(mesh, lm.previous_corner(c)))
        c = lm.following_corner(mesh, c, first)


@wp.kernel
def _queue_all(mesh: LinkedMesh, quadrics: VertexQuadrics, queue: EdgeQueue) -> None:
    """Queue every edge once; the last is the first of its bucket."""
    for half_edge in range(mesh.half_edges.shape[0]):
        if lm.representative(mesh, half_edge) == half_edge:
            _insert_new(mesh, quadrics, queue, half_edge)


@wp.func
def _harm_factor(
    mesh: LinkedMesh, vertex: wp.int32, removed_face: wp.int32, other_removed_face: wp.int32, new: wp.vec3d
) -> wp.float64:
    """Return by what a collapse's cost is multiplied for the faces at one end: flipped ones, and new slivers."""
    factor = wp.float64(1.0)
    old = mesh.vertices[vertex].position
    first = lm.first_corner(mesh, vertex)
    c = int(first)
    while c >= 0:
        face = c / 3
        if face != removed_face and face != other_removed_face:
            a = mesh.vertices[mesh.half_edges[lm.next_corner(c)].vertex].position
            b = mesh.vertices[mesh.half_edges[lm.previous_corner(c)].vertex].position
            n = wp.cross(a - old, b - old)
            m = wp.cross(a - new, b - new)
            # 1. A face that turns by more than 72 degrees.
            if wp.dot(n, m) < wp.float64(0.3) * wp.length(n) * wp.length(m):
                factor = wp.max(factor, FLIPPED)
            # 2. Shape: double area over the sum of the squared sides; 0.29 for an equilateral triangle.
            side = wp.length_sq(b - a) + wp.float64(1.0e-30)
            before = wp.length(n) / (side + wp.length_sq(a - old) + wp.length_sq(b - old))
            after = wp.length(m) / (side + wp.length_sq(a - new) + wp.length_sq(b - new))
            if after < wp.float64(0.04) and after < before:
                factor = wp.max(factor, SLIVER)
        c = lm.following_corner(mesh, c, first)
    return factor


@wp.func
def _flatness_error(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d) -> wp.float64:
    """Return the area of a triangle, squared: as the error of all its area moved by about its width."""
    return wp.length_sq(wp.cross(b - a, c - a)) * wp.float64(0.25)


@wp.func
def _is_component(mesh: LinkedMesh, edge: wp.int32) -> wp.bool:
    """Return whether an edge belongs to a component that cannot collapse: a lone face, two faces, or a tetrahedron."""
    twin = mesh.half_edges[edge].twin
    ahead = mesh.half_edges[lm.next_corner(edge)].twin
    back = mesh.half_edges[lm.previous_corner(edge)].twin
    # 1. A lone face has boundaries only.
    if twin < 0 or ahead < 0 or back < 0:
        return twin < 0 and ahead < 0 and back < 0
    # 2. Two faces that have all three edges in common.
    if twin / 3 == ahead / 3 and twin / 3 == back / 3:
        return True
    # 3. Four different vertices with three faces each.
    apex = mesh.half_edges[lm.previous_corner(twin)].vertex
    for corner in range(3 * (edge / 3), 3 * (edge / 3) + 3):
        v = mesh.half_edges[corner].vertex
        if v == apex or lm.count_corners(mesh, v) != 3:
            return False
    return lm.count_corners(mesh, apex) == 3


@wp.func
def _find_neck(mesh: LinkedMesh, edge: wp.int32) -> wp.int32:
    """Return a vertex next to both ends that is not opposite of the edge in a face; -1 if there is none.

    This is the link condition (Dey et al., Topology Preserving Edge Contraction, 1999).
    """
    twin = mesh.half_edges[edge].twin
    v = mesh.half_edges[lm.next_corner(edge)].vertex
    left = mesh.half_edges[lm.previous_corner(edge)].vertex
    right = wp.where(twin >= 0, mesh.half_edges[lm.previous_corner(wp.max(twin, 0))].vertex, NONE)
    stamp = lm.mark_neighbours(mesh, mesh.half_edges[edge].vertex)
    first = lm.first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        near = mesh.half_edges[lm.next_corner(c)].vertex
        if mesh.vertices[near].mark == stamp and near != left and near != right:
            return near
        c = lm.following_corner(mesh, c, first)
    return NONE


@wp.func
def _cost_with_harm(mesh: LinkedMesh, q: Quadric, edge: wp.int32, p: wp.vec3d) -> wp.float64:
    """Return the cost of a collapse to p, with the harm to the faces at both ends."""
    twin = mesh.half_edges[edge].twin
    other_face = wp.where(twin >= 0, twin / 3, NONE)
    u = mesh.half_edges[edge].vertex
    v = mesh.half_edges[lm.next_corner(edge)].vertex
    harm_u = _harm_factor(mesh, u, edge / 3, other_face, p)
    harm_v = _harm_factor(mesh, v, edge / 3, other_face, p)
    return edge_cost(q, p, mesh.vertices[v].position - mesh.vertices[u].position) * wp.max(harm_u, harm_v)


@wp.func
def _evaluate(mesh: LinkedMesh, quadrics: VertexQuadrics, edge: wp.int32) -> Step:
    """Decide what to do at an edge, and compute its full cost."""
    step = Step()
    step.action = NOTHING
    u = mesh.half_edges[edge].vertex
    v = mesh.half_edges[lm.next_corner(edge)].vertex
    w = mesh.half_edges[lm.previous_corner(edge)].vertex
    p_u = mesh.vertices[u].position
    p_v = mesh.vertices[v].position
    # 1. A lone face, two faces or a tetrahedron go as a whole: for the error of their area moved by their size.
    if _is_component(mesh, edge):
        p_w = mesh.vertices[w].position
        size = wp.max(wp.length_sq(p_v - p_u), wp.max(wp.length_sq(p_w - p_u), wp.length_sq(p_w - p_v)))
        step.action = REMOVE
        step.cost = size * size
        return step
    # 2. Where sheets touched, two edges may have the same ends; neither may become a loop. An inner edge between two
    #    boundary vertices would pinch the surface.
    if lm.count_edges(mesh, v, u) > 1:
        return step
    if mesh.half_edges[edge].twin >= 0 and lm.is_boundary_vertex(mesh, u) and lm.is_boundary_vertex(mesh, v):
        return step
    # 3. The best position of the new vertex, and the cost of the collapse.
    along = p_v - p_u
    middle = p_u + along * wp.float64(0.5)
    q = edge_quadric(mesh, quadrics, edge)
    step.position = best_position(q, middle)
    # 4. A neck must be cut before; one that cannot be cut waits for a change around it. The caps may fill a tunnel:
    #    that error is of the triangle's size.
    neck = _find_neck(mesh, edge)
    if neck >= 0:
        step.second = lm.find_half_edge(mesh, v, neck)
        step.third = lm.find_half_edge(mesh, neck, u)
        if can_cut(mesh, edge, step.second, step.third):
            step.action = CUT
            step.cost = edge_cost(q, step.position, along) + _flatness_error(p_u, p_v, mesh.vertices[neck].position)
        return step
    # 5. A position that harms faces competes with the middle and both ends.
    step.action = COLLAPSE
    step.cost = _cost_with_harm(mesh, q, edge, step.position)
    if step.cost > edge_cost(q, step.position, along):
        for choice in range(3):
            p = wp.where(choice == 0, middle, wp.where(choice == 1, p_u, p_v))
            cost = _cost_with_harm(mesh, q, edge, p)
            if cost < step.cost:
                step.cost = cost
                step.position = p
    # 6. Many faces at one vertex are thin.
    if lm.count_corners(mesh, u) + lm.count_corners(mesh, v) - 4 > MAX_FACES:
        step.cost *= CROWDED
    return step


@wp.func
def _apply(mesh: LinkedMesh, quadrics: VertexQuadrics, queue: EdgeQueue, edge: wp.int32, step: Step) -> None:
    """Collapse, cut or remove at an edge, and queue the edges around it by their new costs."""
    u = mesh.half_edges[edge].vertex
    v = mesh.half_edges[lm.next_corner(edge)].vertex
    _remove_around(mesh, queue, u)
    _remove_around(mesh, queue, v)
    if step.action == COLLAPSE:
        collapse_with_quadrics(mesh, quadrics, edge, step.position)
        if mesh.vertices[u].corner >= 0:
            _insert_around(mesh, quadrics, queue, u)
    elif step.action == CUT:
        third = mesh.half_edges[step.third].vertex
        _remove_around(mesh, queue, third)
        new = cut_cycle(mesh, edge, step.second, step.third)
        copy_quadrics(quadrics, u, new[0])
        copy_quadrics(quadrics, v, new[1])
        copy_quadrics(quadrics, third, new[2])
        _insert_around(mesh, quadrics, queue, u)
        _insert_around(mesh, quadrics, queue, v)
        _insert_around(mesh, quadrics, queue, third)
        for i in range(3):
            _insert_around(mesh, quadrics, queue, new[i])
    else:
        w = mesh.half_edges[lm.previous_corner(edge)].vertex
        _remove_around(mesh, queue, w)
        remove_component(mesh, edge)


@wp.kernel
def _run_steps(
    mesh: LinkedMesh,
    quadrics: VertexQuadrics,
    queue: EdgeQueue,
    target: wp.int32,
    steps: wp.int32,
    is_exhausted: wp.array[wp.int32],
) -> None:
    """Take the cheapest edge until `target` faces are left, at most `steps` times. One thread: the order decides."""
    for _i in range(steps):
        if mesh.count[0] <= target:
            return
        edge = lowest_edge(queue)
        if edge < 0:
            is_exhausted[0] = 1
            return
        bucket = queue.entries[edge].bucket
        remove(queue, edge)
        step = _evaluate(mesh, quadrics, edge)
        if step.action != NOTHING:
            full = bucket_of(step.cost)
            if full > bucket:
                insert(queue, edge, full)
            else:
                _apply(mesh, quadrics, queue, edge, step)
