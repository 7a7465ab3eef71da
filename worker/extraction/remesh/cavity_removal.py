"""Cavity removal: find the faces of a closed offset mesh that border the open space around it.

The mesh's connected components are closed shells. Ray casting decides which of them border the outside; the shells of
sealed cavities, and of whatever is inside a cavity, can never be seen.
"""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels import runtime
from worker.extraction.mesh.topology import label_components


def exterior_faces(positions: wp.array, faces: wp.array) -> wp.array:
    """Flag the faces that border the open space: 1 or 0, int32 [faces] on the device.

    Each shell borders one region of space. A shell wound inward (its volume is negative) encloses its region: a cavity.
    A shell wound outward shares its region with the first shell that a ray upward from its highest vertex hits; if the
    ray hits nothing, the region is the open space.

    Args:
        positions: vec3 [vertices]. faces: int32 [faces, 3], closed and consistently wound. Both on the device.
    """
    device = positions.device
    shell_count, shell = label_components(faces, len(positions))
    volume, tops = _shell_volumes(positions, faces, shell, shell_count), _top_vertices(positions, shell, shell_count)
    above = np.full(shell_count, -1)
    top = wp.empty(shell_count, dtype=wp.vec3, device=device)
    wp.launch(_gather, dim=shell_count, inputs=[positions, runtime.to_int32(tops, device), top], device=device)
    highest = top.numpy()
    queried = np.flatnonzero((volume > 0) & (highest[:, 1] < highest[:, 1].max()))  # nothing is above the highest
    if len(queried):
        start = highest[queried] + np.array([0, 1e-6, 0], dtype=np.float32)
        up = np.broadcast_to(np.array([0, 1, 0], dtype=np.float32), start.shape)
        hit, _ = runtime.cast_rays(wp.Mesh(positions, faces.flatten()), start, up, reach=1e9)
        hit_shell = wp.empty(len(hit), dtype=wp.int32, device=device)
        inputs = [runtime.to_int32(hit, device), faces, shell, hit_shell]
        wp.launch(_shell_of_face, dim=len(hit), inputs=inputs, device=device)
        above[queried] = hit_shell.numpy()
    is_exterior = runtime.to_int32(_exterior_shells(volume, above, highest[:, 1]), device)
    flags = wp.empty(len(faces), dtype=wp.int32, device=device)
    wp.launch(_flag_faces, dim=len(faces), inputs=[faces, shell, is_exterior, flags], device=device)
    return flags


def _shell_volumes(positions: wp.array, faces: wp.array, shell: wp.array, shell_count: int) -> NDArray[np.float64]:
    """Return each shell's enclosed volume, negative where its faces are wound inward; float64 [shells]."""
    volume = wp.zeros(shell_count, dtype=wp.float64, device=positions.device)
    wp.launch(_add_volume, dim=len(faces), inputs=[positions, faces, shell, volume], device=positions.device)
    volumes: NDArray[np.float64] = volume.numpy()
    return volumes


def _top_vertices(positions: wp.array, shell: wp.array, shell_count: int) -> NDArray[np.int32]:
    """Return the highest vertex of each shell, the first of several; int32 [shells]."""
    height = wp.full(shell_count, -1.0e30, dtype=wp.float32, device=positions.device)
    top = wp.full(shell_count, len(positions), dtype=wp.int32, device=positions.device)
    wp.launch(_max_height, dim=len(positions), inputs=[positions, shell, height], device=positions.device)
    wp.launch(_find_top, dim=len(positions), inputs=[positions, shell, height, top], device=positions.device)
    tops: NDArray[np.int32] = top.numpy()
    return tops


def _exterior_shells(volume: NDArray[Any], above: NDArray[Any], top: NDArray[Any]) -> NDArray[np.bool_]:
    """Classify the shells from the highest down: the shell above another one is higher, so it is already classified."""
    is_exterior = np.zeros(len(volume), dtype=bool)
    for shell in np.argsort(-top, kind="stable"):
        if volume[shell] > 0:
            is_exterior[shell] = above[shell] < 0 or above[shell] == shell or is_exterior[above[shell]]
    return is_exterior


@wp.kernel
def _gather(positions: wp.array[wp.vec3], vertex: wp.array[wp.int32], gathered: wp.array[wp.vec3]) -> None:
    """Copy the position of one listed vertex."""
    i = wp.tid()
    gathered[i] = positions[vertex[i]]


@wp.kernel
def _shell_of_face(
    face: wp.array[wp.int32], faces: wp.array2d[wp.int32], shell: wp.array[wp.int32], hit_shell: wp.array[wp.int32]
) -> None:
    """Look up the shell of the face that one ray hit; -1 if it hit none."""
    i = wp.tid()
    hit_shell[i] = -1
    if face[i] >= 0:
        hit_shell[i] = shell[faces[face[i], 0]]


@wp.kernel
def _flag_faces(
    faces: wp.array2d[wp.int32],
    shell: wp.array[wp.int32],
    is_exterior: wp.array[wp.int32],
    flags: wp.array[wp.int32],
) -> None:
    """Copy the flag of one face's shell."""
    face = wp.tid()
    flags[face] = is_exterior[shell[faces[face, 0]]]


@wp.kernel
def _add_volume(
    positions: wp.array[wp.vec3], faces: wp.array2d[wp.int32], shell: wp.array[wp.int32], volume: wp.array[wp.float64]
) -> None:
    """Add the signed volume of the tetrahedron between one face and the origin to its shell's."""
    face = wp.tid()
    a = wp.vec3d(positions[faces[face, 0]])
    b = wp.vec3d(positions[faces[face, 1]])
    c = wp.vec3d(positions[faces[face, 2]])
    wp.atomic_add(volume, shell[faces[face, 0]], wp.dot(a, wp.cross(b, c)) / wp.float64(6.0))


@wp.kernel
def _max_height(positions: wp.array[wp.vec3], shell: wp.array[wp.int32], height: wp.array[wp.float32]) -> None:
    """Raise the shell's height to that of one vertex."""
    vertex = wp.tid()
    wp.atomic_max(height, shell[vertex], positions[vertex][1])


@wp.kernel
def _find_top(
    positions: wp.array[wp.vec3], shell: wp.array[wp.int32], height: wp.array[wp.float32], top: wp.array[wp.int32]
) -> None:
    """Keep the lowest number of the vertices at their shell's height: the result does not depend on thread order."""
    vertex = wp.tid()
    if positions[vertex][1] == height[shell[vertex]]:
        wp.atomic_min(top, shell[vertex], vertex)
