"""Which corners of faces meet at a vertex, and other questions that sorting answers."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray


def vertex_corners(corners: wp.array, vertex_count: int) -> tuple[wp.array, wp.array, wp.array]:
    """For each vertex where its corners begin and end in a list, and the list: corner numbers, 3 * face + column.

    corners: int32 [faces, 3] on the device. A vertex's corners are listed in their own order.
    """
    device, count = corners.device, corners.size
    vertex = wp.empty(2 * count, dtype=wp.int32, device=device)
    corner = wp.empty(2 * count, dtype=wp.int32, device=device)
    wp.launch(_list, dim=count, inputs=[corners.flatten(), vertex, corner], device=device)
    wp.utils.radix_sort_pairs(vertex, corner, count, end_bit=max(vertex_count.bit_length(), 1))
    begin = wp.zeros(vertex_count, dtype=wp.int32, device=device)
    end = wp.zeros(vertex_count, dtype=wp.int32, device=device)
    wp.launch(_bounds, dim=count, inputs=[vertex, count, begin, end], device=device)
    return begin, end, corner


def sort_keys(keys: NDArray[np.int64], device: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Keys that are not negative, ascending, and where each stood before; equal ones keep their order."""
    count = len(keys)
    key = wp.empty(2 * count, dtype=wp.int64, device=device)
    number = wp.empty(2 * count, dtype=wp.int32, device=device)
    wp.copy(key, wp.array(keys, dtype=wp.int64, device=device), count=count)
    wp.copy(number, wp.array(np.arange(count, dtype=np.int32), dtype=wp.int32, device=device), count=count)
    wp.utils.radix_sort_pairs(key, number, count, end_bit=max(int(keys.max()).bit_length(), 1))
    return key[:count].numpy(), number[:count].numpy()


def unique_keys(keys: NDArray[np.int64], device: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The different keys, ascending, and for each key which of them it is; what numpy.unique gives, sooner."""
    ascending, order = sort_keys(keys, device)
    starts = np.empty(len(keys), dtype=bool)
    starts[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    index = np.empty(len(keys), dtype=np.int32)
    index[order] = np.cumsum(starts, dtype=np.int32) - 1
    return ascending[starts], index


@wp.kernel
def _list(flat: wp.array[wp.int32], vertex: wp.array[wp.int32], corner: wp.array[wp.int32]) -> None:
    i = wp.tid()
    vertex[i] = flat[i]
    corner[i] = i


@wp.kernel
def _bounds(vertex: wp.array[wp.int32], count: wp.int32, begin: wp.array[wp.int32], end: wp.array[wp.int32]) -> None:
    i = wp.tid()
    v = vertex[i]
    if i == 0 or vertex[i - 1] != v:
        begin[v] = i
    if i == count - 1 or vertex[i + 1] != v:
        end[v] = i + 1


def chart_of_vertex(faces: NDArray[np.int32], chart: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The chart of each of `count` corners, each of which faces of one chart share; int64 [corners]."""
    owner = np.empty(count, dtype=np.int64)
    owner[faces] = chart[:, None]
    return owner
