"""A triangle mesh whose faces are linked across their edges by half-edges.

Half-edge h is also corner h: it starts at the vertex of corner h % 3 of face h / 3, and runs to the next corner's
vertex. Its twin is the half-edge of the neighbouring face, which runs the opposite way.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

NONE = wp.constant(-1)


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


def link_mesh(vertices: NDArray[Any], faces: NDArray[np.int32]) -> LinkedMesh:
    """Link the faces of a mesh on the CPU: float [vertices, 3], int32 [faces, 3].

    Two faces are linked if they pass an edge in opposite directions. Where sheets touch, more faces have the edge: they
    are linked in pairs if as many pass it one way as the other; else the edge becomes a boundary. A vertex at which
    several fans of faces meet gets a copy for each fan.
    """
    mesh = LinkedMesh()
    mesh.half_edges = wp.zeros(faces.size, dtype=HalfEdge, device="cpu")
    half_edges = mesh.half_edges.numpy()  # a view, as all arrays on the CPU
    half_edges["vertex"] = faces.ravel()
    half_edges["twin"] = _pair_half_edges(faces)
    mesh.is_closed = bool(half_edges["twin"].min(initial=0) >= 0)
    source = _separate_fans(mesh.half_edges, len(vertices))
    mesh.vertices = wp.zeros(len(source), dtype=LinkedVertex, device="cpu")
    rows = mesh.vertices.numpy()
    rows["position"] = vertices[np.maximum(source, 0)]
    rows["corner"] = NONE
    rows["corner"][half_edges["vertex"][::-1]] = np.arange(faces.size, dtype=np.int32)[::-1]
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
def count_edges(mesh: LinkedMesh, u: wp.int32, v: wp.int32) -> wp.int32:
    """Count the edges between u and v: the half-edges from u to v, and those from v to u without a twin."""
    count = int(0)
    first = first_corner(mesh, u)
    c = int(first)
    while c >= 0:
        if mesh.half_edges[next_corner(c)].vertex == v:
            count += 1
        arriving = previous_corner(c)
        if mesh.half_edges[arriving].vertex == v and mesh.half_edges[arriving].twin < 0:
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
