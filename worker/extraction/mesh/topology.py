"""Topology of triangle meshes on a Warp device: corners of a vertex, connected components, compaction.

Each question is answered by sorting, by a prefix sum, or by union-find, so that the result does not depend on the order
in which threads run.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32


@wp.struct
class VertexCorners:
    """The face corners of every vertex, in compressed rows.

    faces: int32 [faces, 3]. begin, end: int32 [vertices], the range of each vertex in `corner`. corner: int32
    [2 * corners] (its second half is the sort's scratch space), corner numbers 3 * face + column, ascending within a
    vertex.
    """

    faces: wp.array2d[wp.int32]
    begin: wp.array[wp.int32]
    end: wp.array[wp.int32]
    corner: wp.array[wp.int32]


@wp.func
def next_vertex(faces: wp.array2d[wp.int32], corner: wp.int32) -> wp.int32:
    """Return the vertex that follows a corner in its face."""
    return faces[corner / 3, (corner % 3 + 1) % 3]


def vertex_corners(faces: wp.array, vertex_count: int) -> VertexCorners:
    """List the face corners of every vertex of a mesh on the device; int32 [faces, 3]."""
    device, count = faces.device, faces.size
    vertex = wp.empty(2 * count, dtype=wp.int32, device=device)
    corner = wp.empty(2 * count, dtype=wp.int32, device=device)
    wp.launch(_list_corners, dim=count, inputs=[faces.flatten(), vertex, corner], device=device)
    wp.utils.radix_sort_pairs(vertex, corner, count, end_bit=max(vertex_count.bit_length(), 1))
    mesh = VertexCorners()
    mesh.faces, mesh.corner = faces, corner
    mesh.begin, mesh.end = (wp.zeros(vertex_count, dtype=wp.int32, device=device) for _ in range(2))
    wp.launch(_find_ranges, dim=count, inputs=[vertex, count, mesh.begin, mesh.end], device=device)
    return mesh


def sort_keys(keys: NDArray[np.int64], device: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sort non-negative keys stably; return them ascending, with the index that each had before."""
    count = len(keys)
    key = wp.empty(2 * count, dtype=wp.int64, device=device)
    index = wp.empty(2 * count, dtype=wp.int32, device=device)
    wp.copy(key, wp.array(keys, dtype=wp.int64, device=device), count=count)
    wp.copy(index, wp.array(np.arange(count, dtype=np.int32), dtype=wp.int32, device=device), count=count)
    wp.utils.radix_sort_pairs(key, index, count, end_bit=max(int(keys.max()).bit_length(), 1))
    return key[:count].numpy(), index[:count].numpy()


def unique_keys(keys: NDArray[np.int64], device: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the unique keys, ascending, and each key's index among them: `numpy.unique`'s result, in less time."""
    ascending, order = sort_keys(keys, device)
    starts = np.empty(len(keys), dtype=bool)
    starts[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    index = np.empty(len(keys), dtype=np.int32)
    index[order] = np.cumsum(starts, dtype=np.int32) - 1
    return ascending[starts], index


def chart_of_vertex(faces: NDArray[np.int32], chart: NDArray[np.int64], vertex_count: int) -> NDArray[np.int64]:
    """Return the chart of every vertex, int64 [vertices], where the faces of a vertex all belong to one chart."""
    owner = np.empty(vertex_count, dtype=np.int64)
    owner[faces] = chart[:, None]
    return owner


def connected_components(faces: NDArray[Any], vertex_count: int, device: str = "cpu") -> tuple[int, NDArray[np.int32]]:
    """Count the connected components and label the vertices; see `label_components`."""
    count, label = label_components(to_int32(faces, device), vertex_count)
    labels: NDArray[np.int32] = label.numpy()
    return count, labels


def label_components(faces: wp.array, vertex_count: int) -> tuple[int, wp.array]:
    """Label the connected components of a mesh by parallel union-find, as ECL-CC (Jaiganesh and Burtscher 2018).

    Returns:
        the number of components, and each vertex's label on the device: int32 [vertices], numbered by first vertex.
    """
    device = faces.device
    parent = wp.array(np.arange(vertex_count, dtype=np.int32), dtype=wp.int32, device=device)
    ends = wp.zeros(vertex_count, dtype=wp.int32, device=device)
    wp.launch(_join_faces, dim=len(faces), inputs=[faces, parent], device=device)
    wp.launch(_mark_roots, dim=vertex_count, inputs=[parent, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    label = wp.empty(vertex_count, dtype=wp.int32, device=device)
    wp.launch(_label_vertices, dim=vertex_count, inputs=[parent, ends, label], device=device)
    return int(ends[-1:].numpy()[0]), label


def compact_indices(faces: NDArray[Any], vertex_count: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Renumber faces over the vertices that they use: bool [vertices], true for those, and int32 [faces, 3]."""
    used = np.zeros(vertex_count, dtype=bool)
    used[faces] = True
    number = (np.cumsum(used) - 1).astype(np.int32)
    return used, number[faces]


def compact_mesh(positions: wp.array, faces: wp.array, kept: wp.array) -> tuple[wp.array, wp.array]:
    """Keep the flagged faces and the vertices that they use, in their order, on the device.

    Args:
        positions: vec3 [vertices]. faces: int32 [faces, 3]. kept: int32 [faces], 1 for a face to keep, else 0.
    """
    device = positions.device
    face_end = wp.empty(len(faces), dtype=wp.int32, device=device)
    wp.utils.array_scan(kept, face_end, inclusive=True)
    used = wp.zeros(len(positions), dtype=wp.int32, device=device)
    wp.launch(_mark_used, dim=len(faces), inputs=[faces, kept, used], device=device)
    vertex_end = wp.empty(len(positions), dtype=wp.int32, device=device)
    wp.utils.array_scan(used, vertex_end, inclusive=True)
    kept_faces = wp.empty((_last(face_end), 3), dtype=wp.int32, device=device)
    wp.launch(_gather_faces, dim=len(faces), inputs=[faces, kept, face_end, vertex_end, kept_faces], device=device)
    kept_positions = wp.empty(_last(vertex_end), dtype=wp.vec3, device=device)
    inputs = [positions, used, vertex_end, kept_positions]
    wp.launch(_gather_vertices, dim=len(positions), inputs=inputs, device=device)
    return kept_positions, kept_faces


def _last(ends: wp.array) -> int:
    """Return the last element of a prefix sum: the total."""
    return int(ends[-1:].numpy()[0]) if len(ends) else 0


@wp.kernel
def _list_corners(flat: wp.array[wp.int32], vertex: wp.array[wp.int32], corner: wp.array[wp.int32]) -> None:
    """Write the pair (vertex, corner number) of one corner."""
    i = wp.tid()
    vertex[i] = flat[i]
    corner[i] = i


@wp.kernel
def _find_ranges(
    vertex: wp.array[wp.int32], count: wp.int32, begin: wp.array[wp.int32], end: wp.array[wp.int32]
) -> None:
    """Record where a run of equal vertices begins and ends in the sorted list."""
    i = wp.tid()
    v = vertex[i]
    if i == 0 or vertex[i - 1] != v:
        begin[v] = i
    if i == count - 1 or vertex[i + 1] != v:
        end[v] = i + 1


@wp.func
def _find_root(parent: wp.array[wp.int32], vertex: wp.int32) -> wp.int32:
    """Follow the parents to the root, halving the path on the way."""
    at = int(vertex)
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@wp.func
def _unite(parent: wp.array[wp.int32], first: wp.int32, second: wp.int32) -> wp.int32:
    """Join the trees of two vertices: make the lower root the parent of the higher one."""
    a = _find_root(parent, first)
    b = _find_root(parent, second)
    while a != b:
        low = wp.min(a, b)
        high = wp.max(a, b)
        # Succeeds only if no other thread has given `high` a parent since.
        previous = wp.atomic_cas(parent, high, high, low)
        if previous == high:
            return low
        # Else continue from the parent that the other thread has set.
        a = _find_root(parent, low)
        b = _find_root(parent, previous)
    return a


@wp.kernel
def _join_faces(faces: wp.array2d[wp.int32], parent: wp.array[wp.int32]) -> None:
    """Unite the three vertices of one face."""
    face = wp.tid()
    _unite(parent, faces[face, 0], faces[face, 1])
    _unite(parent, faces[face, 1], faces[face, 2])


@wp.kernel
def _mark_roots(parent: wp.array[wp.int32], ends: wp.array[wp.int32]) -> None:
    """Flag the roots; their prefix sum numbers the components."""
    vertex = wp.tid()
    if parent[vertex] == vertex:
        ends[vertex] = 1


@wp.kernel
def _label_vertices(parent: wp.array[wp.int32], ends: wp.array[wp.int32], label: wp.array[wp.int32]) -> None:
    """Give one vertex the number of its root. Nothing is written to `parent` any more: the tree is shared."""
    vertex = wp.tid()
    at = int(vertex)
    while parent[at] != at:
        at = parent[at]
    label[vertex] = ends[at] - 1


@wp.kernel
def _mark_used(faces: wp.array2d[wp.int32], kept: wp.array[wp.int32], used: wp.array[wp.int32]) -> None:
    """Flag the three vertices of one kept face; threads that write the same flag write the same value."""
    face = wp.tid()
    if kept[face] == 1:
        for column in range(3):
            used[faces[face, column]] = 1


@wp.kernel
def _gather_faces(
    faces: wp.array2d[wp.int32],
    kept: wp.array[wp.int32],
    face_end: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    kept_faces: wp.array2d[wp.int32],
) -> None:
    """Copy one kept face to its row, with its vertices renumbered."""
    face = wp.tid()
    if kept[face] == 1:
        for column in range(3):
            kept_faces[face_end[face] - 1, column] = vertex_end[faces[face, column]] - 1


@wp.kernel
def _gather_vertices(
    positions: wp.array[wp.vec3],
    used: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    kept_positions: wp.array[wp.vec3],
) -> None:
    """Copy one used vertex to its row."""
    vertex = wp.tid()
    if used[vertex] == 1:
        kept_positions[vertex_end[vertex] - 1] = positions[vertex]
