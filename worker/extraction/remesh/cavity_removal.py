"""Of a closed skin, the walls that something outside can reach; walls of sealed hollows are nobody's to see."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels import runtime


def exterior_faces(place: wp.array, corners: wp.array) -> wp.array:
    """Which faces of a closed, consistently wound skin border the open space around it: 1 or 0, int32 [faces].

    Each connected wall borders one region of space. A wall wound inward (its volume is negative) encloses its region.
    A wall wound outward shares its region with the first wall that a ray from its highest point meets going up; where
    the ray meets nothing, the region is the outside.

    place: vec3 [vertices]. corners: int32 [faces, 3]. Both on the device, and so is what is returned.
    """
    device = place.device
    wall_count, wall = _connected_components(corners, len(place))
    volume, tops = _volumes(place, corners, wall, wall_count), _tops(place, wall, wall_count)
    above = np.full(wall_count, -1)
    top = wp.empty(wall_count, dtype=wp.vec3, device=device)
    wp.launch(_take, dim=wall_count, inputs=[place, runtime.to_int32(tops, device), top], device=device)
    highest = top.numpy()
    asking = np.flatnonzero((volume > 0) & (highest[:, 1] < highest[:, 1].max()))  # nothing is above the top
    if len(asking):
        start = highest[asking] + np.array([0, 1e-6, 0], dtype=np.float32)
        up = np.broadcast_to(np.array([0, 1, 0], dtype=np.float32), start.shape)
        hit, _ = runtime.cast_rays(wp.Mesh(place, corners.flatten()), start, up, reach=1e9)
        met = wp.empty(len(hit), dtype=wp.int32, device=device)
        inputs = [runtime.to_int32(hit, device), corners, wall, met]
        wp.launch(_wall_of, dim=len(hit), inputs=inputs, device=device)
        above[asking] = met.numpy()
    is_open = runtime.to_int32(_open_walls(volume, above, highest[:, 1]), device)
    flags = wp.empty(len(corners), dtype=wp.int32, device=device)
    wp.launch(_flag, dim=len(corners), inputs=[corners, wall, is_open, flags], device=device)
    return flags


def connected_components(faces: NDArray[Any], vertex_count: int, device: str = "cpu") -> tuple[int, NDArray[np.int32]]:
    """How many connected pieces there are, and the piece of each vertex, numbered in the order of the vertices."""
    count, piece = _connected_components(runtime.to_int32(faces, device), vertex_count)
    numbers: NDArray[np.int32] = piece.numpy()
    return count, numbers


def _connected_components(corners: wp.array, vertex_count: int) -> tuple[int, wp.array]:
    device = corners.device
    root = wp.array(np.arange(vertex_count, dtype=np.int32), dtype=wp.int32, device=device)
    ends = wp.zeros(vertex_count, dtype=wp.int32, device=device)
    wp.launch(_join, dim=len(corners), inputs=[corners, root], device=device)
    wp.launch(_mark_roots, dim=vertex_count, inputs=[root, ends], device=device)
    wp.utils.array_scan(ends, ends, inclusive=True)
    piece = wp.empty(vertex_count, dtype=wp.int32, device=device)
    wp.launch(_number, dim=vertex_count, inputs=[root, ends, piece], device=device)
    return int(ends[-1:].numpy()[0]), piece


def _volumes(place: wp.array, corners: wp.array, wall: wp.array, wall_count: int) -> NDArray[np.float64]:
    """What each wall encloses, negative where its faces wind inward; float64 [walls]."""
    volume = wp.zeros(wall_count, dtype=wp.float64, device=place.device)
    wp.launch(_add_volume, dim=len(corners), inputs=[place, corners, wall, volume], device=place.device)
    volumes: NDArray[np.float64] = volume.numpy()
    return volumes


def _tops(place: wp.array, wall: wp.array, wall_count: int) -> NDArray[np.int32]:
    """The highest vertex of each wall, of several the first; int32 [walls]."""
    height = wp.full(wall_count, -1.0e30, dtype=wp.float32, device=place.device)
    top = wp.full(wall_count, len(place), dtype=wp.int32, device=place.device)
    wp.launch(_raise, dim=len(place), inputs=[place, wall, height], device=place.device)
    wp.launch(_find_top, dim=len(place), inputs=[place, wall, height, top], device=place.device)
    tops: NDArray[np.int32] = top.numpy()
    return tops


def _open_walls(volume: NDArray[Any], above: NDArray[Any], top: NDArray[Any]) -> NDArray[np.bool_]:
    """Decide from the highest wall down: what a wall sees above itself is higher, so already decided."""
    is_open = np.zeros(len(volume), dtype=bool)
    for wall in np.argsort(-top, kind="stable"):
        if volume[wall] > 0:
            is_open[wall] = above[wall] < 0 or above[wall] == wall or is_open[above[wall]]
    return is_open


@wp.kernel
def _take(place: wp.array[wp.vec3], vertex: wp.array[wp.int32], there: wp.array[wp.vec3]) -> None:
    i = wp.tid()
    there[i] = place[vertex[i]]


@wp.kernel
def _wall_of(
    face: wp.array[wp.int32], corners: wp.array2d[wp.int32], wall: wp.array[wp.int32], met: wp.array[wp.int32]
) -> None:
    i = wp.tid()
    met[i] = -1
    if face[i] >= 0:
        met[i] = wall[corners[face[i], 0]]


@wp.kernel
def _flag(
    corners: wp.array2d[wp.int32], wall: wp.array[wp.int32], is_open: wp.array[wp.int32], flags: wp.array[wp.int32]
) -> None:
    face = wp.tid()
    flags[face] = is_open[wall[corners[face, 0]]]


@wp.func
def _find(root: wp.array[wp.int32], vertex: wp.int32) -> wp.int32:
    at = int(vertex)
    while root[at] != at:
        root[at] = root[root[at]]
        at = root[at]
    return at


@wp.func
def _unite(root: wp.array[wp.int32], one: wp.int32, other: wp.int32) -> wp.int32:
    """Hang the higher root under the lower one, or go on from where another thread has hung it meanwhile."""
    a = _find(root, one)
    b = _find(root, other)
    while a != b:
        low = wp.min(a, b)
        high = wp.max(a, b)
        held = wp.atomic_cas(root, high, high, low)
        if held == high:
            return low
        a = _find(root, low)
        b = _find(root, held)
    return a


@wp.kernel
def _join(corners: wp.array2d[wp.int32], root: wp.array[wp.int32]) -> None:
    face = wp.tid()
    _unite(root, corners[face, 0], corners[face, 1])
    _unite(root, corners[face, 1], corners[face, 2])


@wp.kernel
def _mark_roots(root: wp.array[wp.int32], ends: wp.array[wp.int32]) -> None:
    vertex = wp.tid()
    if root[vertex] == vertex:
        ends[vertex] = 1


@wp.kernel
def _number(root: wp.array[wp.int32], ends: wp.array[wp.int32], piece: wp.array[wp.int32]) -> None:
    vertex = wp.tid()
    at = int(vertex)
    while root[at] != at:
        at = root[at]
    piece[vertex] = ends[at] - 1


@wp.kernel
def _add_volume(
    place: wp.array[wp.vec3], corners: wp.array2d[wp.int32], wall: wp.array[wp.int32], volume: wp.array[wp.float64]
) -> None:
    face = wp.tid()
    a = wp.vec3d(place[corners[face, 0]])
    b = wp.vec3d(place[corners[face, 1]])
    c = wp.vec3d(place[corners[face, 2]])
    wp.atomic_add(volume, wall[corners[face, 0]], wp.dot(a, wp.cross(b, c)) / wp.float64(6.0))


@wp.kernel
def _raise(place: wp.array[wp.vec3], wall: wp.array[wp.int32], height: wp.array[wp.float32]) -> None:
    vertex = wp.tid()
    wp.atomic_max(height, wall[vertex], place[vertex][1])


@wp.kernel
def _find_top(
    place: wp.array[wp.vec3], wall: wp.array[wp.int32], height: wp.array[wp.float32], top: wp.array[wp.int32]
) -> None:
    vertex = wp.tid()
    if place[vertex][1] == height[wall[vertex]]:
        wp.atomic_min(top, wall[vertex], vertex)
