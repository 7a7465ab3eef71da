"""What every face of a mesh is by itself: its area, its normal and sides, and whether it has a direction at all."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels import integers, vectors

FLAT = wp.constant(wp.float64(1e-12))  # area, relative to the longest side squared, below which there is no direction


def double_areas(vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, device: str) -> NDArray[np.float64]:
    """Twice each face's area; float64 [faces]."""
    areas: NDArray[np.float64] = _measured(vertices, faces, device)[0].numpy()
    return areas


def directed(vertices: NDArray[Any], faces: NDArray[Any], device: str) -> NDArray[np.bool_]:
    """Which faces have an area, and so a normal; bool [faces]."""
    flags: NDArray[np.bool_] = _measured(vertices, faces, device)[1].numpy()
    return flags


def crosses(
    vertices: NDArray[Any], faces: NDArray[Any], device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each face's normal, as long as its area, and the lengths of its sides in order; float64 [faces, 3] both."""
    place = wp.array(np.ascontiguousarray(vertices, dtype=np.float64), dtype=wp.vec3d, device=device)
    cross = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    sides = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    wp.launch(_cross, dim=len(faces), inputs=[place, integers(faces, device), cross, sides], device=device)
    return cross.numpy(), sides.numpy()


def _measured(
    vertices: NDArray[Any] | wp.array, faces: NDArray[Any] | wp.array, device: str
) -> tuple[wp.array, wp.array]:
    place = vectors(vertices, device)
    corners = integers(faces, device)
    area = wp.empty(len(faces), dtype=wp.float64, device=device)
    has_direction = wp.empty(len(faces), dtype=wp.bool, device=device)
    wp.launch(_measure, dim=len(faces), inputs=[place, corners, area, has_direction], device=device)
    return area, has_direction


@wp.kernel
def _measure(
    place: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    area: wp.array[wp.float64],
    has_direction: wp.array[wp.bool],
) -> None:
    face = wp.tid()
    a = wp.vec3d(place[corners[face, 0]])
    b = wp.vec3d(place[corners[face, 1]])
    c = wp.vec3d(place[corners[face, 2]])
    double_area = wp.length(wp.cross(b - a, c - a))
    longest = wp.max(wp.length_sq(a - b), wp.max(wp.length_sq(b - c), wp.length_sq(c - a)))
    area[face] = double_area
    has_direction[face] = double_area > FLAT * wp.max(longest, wp.float64(1.0e-12))


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
