"""What every face of a mesh is by itself: its normal, sides and shadows, and whether it has a direction at all."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32, to_vec3

FLAT = wp.constant(wp.float64(1e-12))  # area, relative to the longest side squared, below which there is no direction


def signed_areas_2d(corners: NDArray[Any]) -> NDArray[np.float64]:
    """The areas of triangles in the plane, negative where they are turned over; float64 [triangles].

    corners: [triangles, 3, 2].
    """
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas: NDArray[np.float64] = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).astype(np.float64) / 2
    return areas


def projected_areas(vertices: wp.array, faces: wp.array) -> NDArray[np.float64]:
    """Twice the areas of each face's shadows along the three axes, together; float64 [faces].

    vertices: vec3 [vertices], faces: int32 [faces, 3], on one device.
    """
    shadows = wp.empty(len(faces), dtype=wp.float64, device=vertices.device)
    wp.launch(_shade, dim=len(faces), inputs=[vertices, faces, shadows], device=vertices.device)
    found: NDArray[np.float64] = shadows.numpy()
    return found


def non_degenerate(vertices: NDArray[Any], faces: NDArray[Any], device: str) -> NDArray[np.bool_]:
    """Which faces have an area, and so a normal; bool [faces]."""
    has_direction = wp.empty(len(faces), dtype=wp.bool, device=device)
    inputs = [to_vec3(vertices, device), to_int32(faces, device), has_direction]
    wp.launch(_direct, dim=len(faces), inputs=inputs, device=device)
    flags: NDArray[np.bool_] = has_direction.numpy()
    return flags


def face_normals(
    vertices: NDArray[Any], faces: NDArray[Any], device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each face's normal, as long as its area, and the lengths of its sides in order; float64 [faces, 3] both."""
    place = wp.array(np.ascontiguousarray(vertices, dtype=np.float64), dtype=wp.vec3d, device=device)
    cross = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    sides = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    wp.launch(_cross, dim=len(faces), inputs=[place, to_int32(faces, device), cross, sides], device=device)
    return cross.numpy(), sides.numpy()


@wp.kernel
def _direct(place: wp.array[wp.vec3], corners: wp.array2d[wp.int32], has_direction: wp.array[wp.bool]) -> None:
    face = wp.tid()
    a = wp.vec3d(place[corners[face, 0]])
    b = wp.vec3d(place[corners[face, 1]])
    c = wp.vec3d(place[corners[face, 2]])
    double_area = wp.length(wp.cross(b - a, c - a))
    longest = wp.max(wp.length_sq(a - b), wp.max(wp.length_sq(b - c), wp.length_sq(c - a)))
    has_direction[face] = double_area > FLAT * wp.max(longest, wp.float64(1.0e-12))


@wp.kernel
def _shade(place: wp.array[wp.vec3], corners: wp.array2d[wp.int32], shadows: wp.array[wp.float64]) -> None:
    face = wp.tid()
    a = wp.vec3d(place[corners[face, 0]])
    cross = wp.cross(wp.vec3d(place[corners[face, 1]]) - a, wp.vec3d(place[corners[face, 2]]) - a)
    shadows[face] = wp.abs(cross[0]) + wp.abs(cross[1]) + wp.abs(cross[2])


@wp.kernel
def _cross(
    place: wp.array[wp.vec3d],
    corners: wp.array2d[wp.int32],
    cross: wp.array[wp.vec3d],
    sides: wp.array[wp.vec3d],
) -> None:
    face = wp.tid()
    a = place[corners[face, 0]]
    b = place[corners[face, 1]]
    c = place[corners[face, 2]]
    cross[face] = wp.cross(b - a, c - a) * wp.float64(0.5)
    sides[face] = wp.vec3d(wp.length(b - a), wp.length(c - b), wp.length(a - c))
