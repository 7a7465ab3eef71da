"""A triangle mesh whose faces are linked across their edges, and the operations that change it and keep it manifold.

Half-edge h is also corner h: it starts at `vertex[h]`, corner h % 3 of face h / 3, and runs to the next corner's
vertex. Its twin is the half-edge of the neighbouring face, which runs the opposite way.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

NONE = wp.constant(-1)
VERTICES_TO_CUT = 3  # copies that a cut needs
FACES_TO_CUT = 2  # caps


@wp.struct
class HalfEdge:
    """vertex: where it starts, -1 in a removed face. twin: the half-edge of the neighbouring face, -1 on a boundary."""

    vertex: wp.int32
    twin: wp.int32


@wp.struct
class LinkedVertex:
    """position: metres. corner: one at the vertex, -1 for a removed vertex. mark: a stamp."""

    position: wp.vec3d
    corner: wp.int32
    mark: wp.int32


@wp.struct
class LinkedMesh:
    """Faces, their links, and lists of unused rows. What is used together is stored together, for the CPU's caches.

    half_edges: [3 * faces]. vertices: [vertices]. stamp: int32 [1]; a vertex is marked if its mark equals the stamp.
    free_faces, free_vertices: int32, stacks of removed rows. count: int32 [3], the faces, and the heights of both
    stacks. is_closed: no half-edge is on a boundary.
    """

    half_edges: wp.array[HalfEdge]
    vertices: wp.array[LinkedVertex]
    stamp: wp.array[wp.int32]
    free_faces: wp.array[wp.int32]
    free_vertices: wp.array[wp.int32]
    count: wp.array[wp.int32]
    is_closed: wp.bool


HALF_EDGE = np.dtype([("vertex", np.int32), ("twin", np.int32)])
VERTEX = np.dtype([("position", np.float64, 3), ("corner", np.int32), ("mark", np.int32)])


def link_mesh(vertices: NDArray[Any], faces: NDArray[np.int32]) -> LinkedMesh:
    """Link the faces of a mesh on the CPU: float [vertices, 3], int32 [faces, 3].

    Two faces are linked if they pass an edge in opposite directions. Where sheets touch, more faces have the edge: they
    are linked in pairs if as many pass it one way as the other; else the edge becomes a boundary. A vertex at which
    several fans of faces meet gets a copy for each fan.
    """
    half_edges = np.empty(faces.size, dtype=HALF_EDGE)
    half_edges["vertex"] = faces.ravel()
    half_edges["twin"] = _pair_half_edges(faces)
    mesh = LinkedMesh()
    mesh.half_edges = wp.array(half_edges, dtype=HalfEdge, device="cpu")
    mesh.is_closed = bool(half_edges["twin"].min(initial=0) >= 0)
    source = _separate_fans(mesh.half_edges, len(vertices))
    rows = np.zeros(len(source), dtype=VERTEX)
    rows["position"] = vertices[np.maximum(source, 0)]
    rows["corner"] = -1
    corners = mesh.half_edges.numpy()["vertex"]
    rows["corner"][corners[::-1]] = np.arange(len(corners), dtype=np.int32)[::-1]
    mesh.vertices = wp.array(rows, dtype=LinkedVertex, device="cpu")
    mesh.stamp = wp.zeros(1, dtype=wp.int32, device="cpu")
    mesh.free_faces = wp.zeros(len(faces), dtype=wp.int32, device="cpu")
    mesh.free_vertices = wp.zeros(len(source), dtype=wp.int32, device="cpu")
    mesh.count = wp.array([len(faces), 0, 0], dtype=wp.int32, device="cpu")
    return mesh


def _separate_fans(half_edges: wp.array, vertex_count: int) -> NDArray[np.int32]:
    """Give every fan of faces a vertex of its own; return what each vertex is a copy of, -1 for one without a face."""
    count = wp.array([vertex_count], dtype=wp.int32, device="cpu")
    origin = wp.full(len(half_edges) + vertex_count, NONE, dtype=wp.int32, device="cpu")
    visited = wp.zeros(len(half_edges), dtype=wp.int32, device="cpu")
    wp.launch(_walk_fans, dim=1, inputs=[half_edges, visited, origin, count], device="cpu")
    source: NDArray[np.int32] = origin.numpy()[: int(count.numpy()[0])]
    return source


def list_faces(mesh: LinkedMesh) -> NDArray[np.int32]:
    """Return the faces that are left; int32 [faces, 3]."""
    rows: NDArray[np.int32] = mesh.half_edges.numpy()["vertex"].reshape(-1, 3)
    return rows[rows[:, 0] >= 0]


def _pair_half_edges(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return each half-edge's twin, or -1; int32 [3 * faces]."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel()
    # Sort by the undirected edge, and there by direction; a run is one edge.
    keys = np.minimum(start, end) << 32 | np.maximum(start, end)
    order = np.argsort(keys << 1 | (start > end), kind="stable")
    ascending = keys[order]
    begins = np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))
    sizes = np.diff(begins, append=len(order))
    twin = np.full(len(order), -1, dtype=np.int32)
    # The first half of a run is paired with the second if they pass the edge in opposite directions.
    for half in range(1, int(sizes.max(initial=0)) // 2 + 1):
        run = begins[sizes == 2 * half]
        last_forward, first_back = order[run + half - 1], order[run + half]
        run = run[(start[last_forward] < end[last_forward]) & (start[first_back] > end[first_back])]
        for i in range(half):
            left, right = order[run + i], order[run + half + i]
            twin[left], twin[right] = right, left
    return twin


@wp.func
def next_corner(corner: wp.int32) -> wp.int32:
    """Return the next corner of the same face."""
    return wp.where(corner % 3 == 2, corner - 2, corner + 1)


@wp.func
def previous_corner(corner: wp.int32) -> wp.int32:
    """Return the previous corner of the same face."""
    return wp.where(corner % 3 == 0, corner + 2, corner - 1)


@wp.kernel
def _walk_fans(
    half_edges: wp.array[HalfEdge],
    visited: wp.array[wp.int32],
    origin: wp.array[wp.int32],
    count: wp.array[wp.int32],
) -> None:
    """Give every fan of faces a vertex of its own. origin: the vertex that each one is a copy of; -1 if unused."""
    for start in range(half_edges.shape[0]):
        if visited[start] == 0:
            # 1. The first fan of a vertex keeps its number, further ones get the next free one.
            old = half_edges[start].vertex
            new = int(old)
            if origin[old] >= 0:
                new = count[0]
                count[0] = new + 1
            origin[new] = old
            # 2. Go clockwise to the boundary, or once around.
            c = int(start)
            while half_edges[c].twin >= 0 and next_corner(half_edges[c].twin) != start:
                c = next_corner(half_edges[c].twin)
            # 3. Counterclockwise through the fan.
            while c >= 0:
                visited[c] = 1
                half_edges[c].vertex = new
                c = half_edges[previous_corner(c)].twin
                if c >= 0:  # `and` would read visited[-1]
                    c = wp.where(visited[c] == 0, c, NONE)


@wp.func
def first_corner(mesh: LinkedMesh, v: wp.int32) -> wp.int32:
    """Return the corner at v from which `following_corner` reaches all others: on a boundary the last one clockwise."""
    start = mesh.vertices[v].corner
    if mesh.is_closed:
        return start
    c = int(start)
    while mesh.half_edges[c].twin >= 0 and next_corner(mesh.half_edges[c].twin) != start:
        c = next_corner(mesh.half_edges[c].twin)
    return c


@wp.func
def following_corner(mesh: LinkedMesh, corner: wp.int32, first: wp.int32) -> wp.int32:
    """Return the next corner counterclockwise at the same vertex; -1 behind the last."""
    c = mesh.half_edges[previous_corner(corner)].twin
    return wp.where(c == first, NONE, c)


@wp.func
def representative(mesh: LinkedMesh, half_edge: wp.int32) -> wp.int32:
    """Return the half-edge that stands for an edge: the lower one of two."""
    twin = mesh.half_edges[half_edge].twin
    return wp.where(twin >= 0 and twin < half_edge, twin, half_edge)


@wp.func
def is_boundary_vertex(mesh: LinkedMesh, v: wp.int32) -> wp.bool:
    """Return whether an edge at v has only one face."""
    if mesh.is_closed:
        return False
    return mesh.half_edges[first_corner(mesh, v)].twin < 0


@wp.func
def count_corners(mesh: LinkedMesh, v: wp.int32) -> wp.int32:
    """Count the faces at v."""
    count = int(0)
    first = first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        count += 1
        c = following_corner(mesh, c, first)
    return count


@wp.func
def mark_neighbours(mesh: LinkedMesh, v: wp.int32) -> wp.int32:
    """Mark the neighbours of v, and no other vertex; return the stamp."""
    stamp = mesh.stamp[0] + 1
    mesh.stamp[0] = stamp
    first = first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        mesh.vertices[mesh.half_edges[next_corner(c)].vertex].mark = stamp
        mesh.vertices[mesh.half_edges[previous_corner(c)].vertex].mark = stamp
        c = following_corner(mesh, c, first)
    return stamp


@wp.func
def _remove_face(mesh: LinkedMesh, half_edge: wp.int32) -> wp.int32:
    """Remove the face of a half-edge u -> v whose ends are one vertex already, and link what is across its other sides.

    Return a corner at u that is left, or -1.
    """
    ahead = mesh.half_edges[next_corner(half_edge)].twin
    back = mesh.half_edges[previous_corner(half_edge)].twin
    apex = mesh.half_edges[previous_corner(half_edge)].vertex
    # 1. Link the two faces across the other sides; -1 passes through.
    at_u = int(NONE)
    at_apex = int(NONE)
    if ahead >= 0:
        mesh.half_edges[ahead].twin = back
        at_apex = ahead
        at_u = next_corner(ahead)
    if back >= 0:
        mesh.half_edges[back].twin = ahead
        at_apex = next_corner(back)
        at_u = back
    mesh.vertices[apex].corner = at_apex
    if at_apex < 0:
        _free_vertex(mesh, apex)
    # 2. Free the row.
    _free_face(mesh, half_edge / 3)
    return at_u


@wp.func
def _free_vertex(mesh: LinkedMesh, v: wp.int32) -> None:
    mesh.vertices[v].corner = NONE
    mesh.free_vertices[mesh.count[2]] = v
    mesh.count[2] = mesh.count[2] + 1


@wp.func
def _free_face(mesh: LinkedMesh, face: wp.int32) -> None:
    for column in range(3):
        mesh.half_edges[3 * face + column].vertex = NONE
        mesh.half_edges[3 * face + column].twin = NONE
    mesh.free_faces[mesh.count[1]] = face
    mesh.count[1] = mesh.count[1] + 1
    mesh.count[0] = mesh.count[0] - 1


@wp.func
def collapse_edge(mesh: LinkedMesh, half_edge: wp.int32, position: wp.vec3d) -> None:
    """Collapse an edge into its start, which moves to `position`. The edge must satisfy the link condition."""
    u = mesh.half_edges[half_edge].vertex
    v = mesh.half_edges[next_corner(half_edge)].vertex
    twin = mesh.half_edges[half_edge].twin
    # 1. All corners at v become corners at u.
    first = first_corner(mesh, v)
    c = int(first)
    while c >= 0:
        following = following_corner(mesh, c, first)
        mesh.half_edges[c].vertex = u
        c = following
    # 2. The faces at the edge go.
    at_u = _remove_face(mesh, half_edge)
    if twin >= 0:
        other = _remove_face(mesh, twin)
        # The corner that the first call returned may have been in the second face.
        if at_u < 0 or mesh.half_edges[wp.max(at_u, 0)].vertex < 0:
            at_u = other
    mesh.vertices[u].corner = at_u
    mesh.vertices[u].position = position
    _free_vertex(mesh, v)
    if at_u < 0:
        _free_vertex(mesh, u)


@wp.func
def remove_component(mesh: LinkedMesh, half_edge: wp.int32) -> None:
    """Remove a lone face, or the four faces of a tetrahedron."""
    face = half_edge / 3
    apex = int(NONE)
    if mesh.half_edges[half_edge].twin >= 0:
        apex = mesh.half_edges[previous_corner(mesh.half_edges[half_edge].twin)].vertex
    # 1. The faces across its sides, and the tetrahedron's fourth vertex.
    for column in range(3):
        _free_vertex(mesh, mesh.half_edges[3 * face + column].vertex)
        if apex >= 0:
            _free_face(mesh, mesh.half_edges[3 * face + column].twin / 3)
    if apex >= 0:
        _free_vertex(mesh, apex)
    # 2. The face itself.
    _free_face(mesh, face)


@wp.func
def count_edges(mesh: LinkedMesh, u: wp.int32, v: wp.int32) -> wp.int32:
    """Count the half-edges from u to v."""
    count = int(0)
    first = first_corner(mesh, u)
    c = int(first)
    while c >= 0:
        if mesh.half_edges[next_corner(c)].vertex == v:
            count += 1
        c = following_corner(mesh, c, first)
    return count


@wp.func
def find_half_edge(mesh: LinkedMesh, u: wp.int32, v: wp.int32) -> wp.int32:
    """Return the half-edge from u to v, or -1."""
    first = first_corner(mesh, u)
    c = int(first)
    while c >= 0:
        if mesh.half_edges[next_corner(c)].vertex == v:
            return c
        c = following_corner(mesh, c, first)
    return NONE


@wp.func
def can_cut(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> wp.bool:
    """Return whether the mesh can be cut along three half-edges: none is a boundary, and rows are left."""
    if a < 0 or b < 0 or c < 0:
        return False
    u = mesh.half_edges[a].vertex
    w = mesh.half_edges[c].vertex
    if count_edges(mesh, mesh.half_edges[b].vertex, w) > 1 or count_edges(mesh, w, u) > 1:
        return False
    if mesh.half_edges[a].twin < 0 or mesh.half_edges[b].twin < 0 or mesh.half_edges[c].twin < 0:
        return False
    if (
        is_boundary_vertex(mesh, u)
        or is_boundary_vertex(mesh, w)
        or is_boundary_vertex(mesh, mesh.half_edges[b].vertex)
    ):
        return False
    return mesh.count[1] >= wp.static(FACES_TO_CUT) and mesh.count[2] >= wp.static(VERTICES_TO_CUT)


@wp.func
def _split_vertex(mesh: LinkedMesh, leaving: wp.int32, arriving: wp.int32) -> wp.int32:
    """Move the corners left of the path arriving -> leaving at a vertex to a new vertex, and return it."""
    v = mesh.half_edges[leaving].vertex
    mesh.count[2] = mesh.count[2] - 1
    new = mesh.free_vertices[mesh.count[2]]
    mesh.vertices[new].position = mesh.vertices[v].position
    mesh.vertices[new].corner = leaving
    # The other side begins behind the edge.
    mesh.vertices[v].corner = next_corner(mesh.half_edges[leaving].twin)
    c = int(leaving)
    while c >= 0:
        mesh.half_edges[c].vertex = new
        c = wp.where(previous_corner(c) == arriving, NONE, mesh.half_edges[previous_corner(c)].twin)
    return new


@wp.func
def _add_cap(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> None:
    """Add the face that runs along three half-edges in the opposite direction."""
    mesh.count[1] = mesh.count[1] - 1
    mesh.count[0] = mesh.count[0] + 1
    corner = 3 * mesh.free_faces[mesh.count[1]]
    # Its half-edges end where theirs start: twin of a, then of c, then of b.
    _link(mesh, corner, a)
    _link(mesh, corner + 1, c)
    _link(mesh, corner + 2, b)


@wp.func
def _link(mesh: LinkedMesh, corner: wp.int32, twin: wp.int32) -> None:
    mesh.half_edges[corner].vertex = mesh.half_edges[next_corner(twin)].vertex
    mesh.half_edges[corner].twin = twin
    mesh.half_edges[twin].twin = corner


@wp.func
def cut_cycle(mesh: LinkedMesh, a: wp.int32, b: wp.int32, c: wp.int32) -> wp.vec3i:
    """Cut the mesh along the cycle of half-edges a, b, c, which no face fills, and close both sides with a triangle.

    Return the three new vertices, at the starts of a, b and c; they are on the left side of the cycle.
    """
    right_a = mesh.half_edges[a].twin
    right_b = mesh.half_edges[b].twin
    right_c = mesh.half_edges[c].twin
    # 1. The left side gets vertices of its own.
    new_a = _split_vertex(mesh, a, c)
    new_b = _split_vertex(mesh, b, a)
    new_c = _split_vertex(mesh, c, b)
    # 2. Both sides get a cap. On the right, the cycle runs the other way.
    _add_cap(mesh, a, b, c)
    _add_cap(mesh, right_a, right_c, right_b)
    return wp.vec3i(new_a, new_b, new_c)
