"""Vertex normals: smooth where the surface is, sharp where two charts meet at a crease."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.mesh.adjacency import vertex_corners

SMOOTH_TO = wp.constant(wp.float64(np.cos(np.radians(35))))  # faces that lean less than this from a vertex's own count
SHARP_FROM = wp.constant(wp.float64(np.cos(np.radians(65))))  # in full, and those that lean more than this not at all
SMALL = wp.constant(wp.float64(1e-30))
HALF = wp.constant(wp.float64(0.5))  # of a unit vector's squared length: less means that there is no vector


def vertex_normals(
    vertices: NDArray[Any], faces: NDArray[np.int32], split: NDArray[np.int32], device: str = "cpu"
) -> NDArray[np.float32]:
    """Unit normals of the split vertices; float32 [split vertices, 3].

    A split vertex first takes the mean of its own faces, weighted by their angle there (Thurmer and Wuthrich 1998).
    Then all faces at the same place join in, as far as they lean alike: a seam stays invisible, an edge stays an edge.

    vertices: float [vertices, 3]. faces: int32 [faces, 3] into them. split: int32 [faces, 3], the same faces over
    vertices that are doubled where charts meet.
    """
    place = wp.array(np.ascontiguousarray(vertices, dtype=np.float64), dtype=wp.vec3d, device=device)
    corners, split_corners = to_int32(faces, device), to_int32(split, device)
    weighted = wp.empty(3 * len(faces), dtype=wp.vec3d, device=device)
    wp.launch(_weigh, dim=len(faces), inputs=[place, corners, weighted], device=device)
    count = int(split.max()) + 1
    normal = wp.empty(count, dtype=wp.vec3, device=device)
    inputs = [corners, weighted, *vertex_corners(split_corners, count), *vertex_corners(corners, len(vertices)), normal]
    wp.launch(_blend, dim=count, inputs=inputs, device=device)
    unit: NDArray[np.float32] = normal.numpy()
    return unit


@wp.func
def _unit(v: wp.vec3d) -> wp.vec3d:
    return v / wp.max(wp.length(v), SMALL)


@wp.kernel
def _weigh(place: wp.array[wp.vec3d], corners: wp.array2d[wp.int32], weighted: wp.array[wp.vec3d]) -> None:
    """Each corner's face normal, as long as the corner's angle."""
    face = wp.tid()
    a = place[corners[face, 0]]
    b = place[corners[face, 1]]
    c = place[corners[face, 2]]
    flat = _unit(wp.cross(_unit(b - a), _unit(c - a)))
    for column in range(3):
        here = place[corners[face, column]]
        ahead = _unit(place[corners[face, (column + 1) % 3]] - here)
        back = _unit(place[corners[face, (column + 2) % 3]] - here)
        weighted[3 * face + column] = flat * wp.acos(wp.clamp(wp.dot(ahead, back), wp.float64(-1.0), wp.float64(1.0)))


@wp.kernel
def _blend(
    corners: wp.array2d[wp.int32],
    weighted: wp.array[wp.vec3d],
    own_begin: wp.array[wp.int32],
    own_end: wp.array[wp.int32],
    own_corner: wp.array[wp.int32],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    corner: wp.array[wp.int32],
    normal: wp.array[wp.vec3],
) -> None:
    i = wp.tid()
    own = wp.vec3d()
    total = wp.vec3d()
    if own_begin[i] < own_end[i]:
        for at in range(own_begin[i], own_end[i]):
            own += weighted[own_corner[at]]
        own = _unit(own)
        first = own_corner[own_begin[i]]
        vertex = corners[first / 3, first % 3]
        for at in range(begin[vertex], end[vertex]):
            other = weighted[corner[at]]
            share = (wp.dot(_unit(other), own) - SHARP_FROM) / (SMOOTH_TO - SHARP_FROM)
            total += other * wp.clamp(share, wp.float64(0.0), wp.float64(1.0))
        total = _unit(total)
    if wp.length_sq(total) < HALF:
        total = own
    if wp.length_sq(total) < HALF:
        total = wp.vec3d(wp.float64(0.0), wp.float64(1.0), wp.float64(0.0))
    normal[i] = wp.vec3(total)
