"""Leave out the vertices that no face uses."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray


def compact_indices(faces: NDArray[Any], vertex_count: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which vertices some face uses, bool [vertices], and the faces over those alone, int32 [faces, 3]."""
    used = np.zeros(vertex_count, dtype=bool)
    used[faces] = True
    number = (np.cumsum(used) - 1).astype(np.int32)
    return used, number[faces]


def compact_mesh(place: wp.array, corners: wp.array, kept: wp.array) -> tuple[wp.array, wp.array]:
    """The faces whose flag, int32 [faces], is 1, and the vertices that they use, in their order, all on the device.

    place: vec3 [vertices]. corners: int32 [faces, 3].
    """
    device = place.device
    face_end = wp.empty(len(corners), dtype=wp.int32, device=device)
    wp.utils.array_scan(kept, face_end, inclusive=True)
    used = wp.zeros(len(place), dtype=wp.int32, device=device)
    wp.launch(_mark, dim=len(corners), inputs=[corners, kept, used], device=device)
    vertex_end = wp.empty(len(place), dtype=wp.int32, device=device)
    wp.utils.array_scan(used, vertex_end, inclusive=True)
    left = wp.empty((_last(face_end), 3), dtype=wp.int32, device=device)
    wp.launch(_gather_faces, dim=len(corners), inputs=[corners, kept, face_end, vertex_end, left], device=device)
    there = wp.empty(_last(vertex_end), dtype=wp.vec3, device=device)
    wp.launch(_gather_vertices, dim=len(place), inputs=[place, used, vertex_end, there], device=device)
    return there, left


def _last(ends: wp.array) -> int:
    return int(ends[-1:].numpy()[0]) if len(ends) else 0


@wp.kernel
def _mark(corners: wp.array2d[wp.int32], kept: wp.array[wp.int32], used: wp.array[wp.int32]) -> None:
    face = wp.tid()
    if kept[face] == 1:
        for column in range(3):
            used[corners[face, column]] = 1


@wp.kernel
def _gather_faces(
    corners: wp.array2d[wp.int32],
    kept: wp.array[wp.int32],
    face_end: wp.array[wp.int32],
    vertex_end: wp.array[wp.int32],
    left: wp.array2d[wp.int32],
) -> None:
    face = wp.tid()
    if kept[face] == 1:
        for column in range(3):
            left[face_end[face] - 1, column] = vertex_end[corners[face, column]] - 1


@wp.kernel
def _gather_vertices(
    place: wp.array[wp.vec3], used: wp.array[wp.int32], vertex_end: wp.array[wp.int32], there: wp.array[wp.vec3]
) -> None:
    vertex = wp.tid()
    if used[vertex] == 1:
        there[vertex_end[vertex] - 1] = place[vertex]
