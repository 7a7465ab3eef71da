"""A sparse grid: a dense index of bricks, 8 x 8 x 8 values in each that is used."""

from dataclasses import dataclass

import warp as wp

SIDE = 8
VOLUME = SIDE**3


@dataclass(frozen=True, slots=True)
class SparseGrid:
    """Which bricks of a grid are used.

    index: int32 [x, y, z] on the device, the brick's number or -1. places: vec3i [count], each used brick's x, y, z.
    """

    index: wp.array
    brick_coords: wp.array
    count: int

    @classmethod
    def from_flags(cls, flags: wp.array) -> "SparseGrid":
        """Number the bricks whose flag, int32 [x, y, z], is 1."""
        device = flags.device
        ends = wp.empty(flags.size, dtype=wp.int32, device=device)
        wp.utils.array_scan(flags.flatten(), ends, inclusive=True)
        count = int(ends[-1:].numpy()[0])
        index = wp.empty(flags.shape, dtype=wp.int32, device=device)
        places = wp.empty(count, dtype=wp.vec3i, device=device)
        wp.launch(_number, dim=flags.shape, inputs=[flags, ends.reshape(flags.shape), index, places], device=device)
        return cls(index, places, count)


@wp.func
def value_index(index: wp.array3d[wp.int32], x: wp.int32, y: wp.int32, z: wp.int32) -> wp.int32:
    """Where the value of cell (x, y, z) lies, or -1: outside the grid, or in a brick that is not used."""
    if x < 0 or y < 0 or z < 0:
        return -1
    i = x >> 3
    j = y >> 3
    k = z >> 3
    if i >= index.shape[0] or j >= index.shape[1] or k >= index.shape[2]:
        return -1
    brick = index[i, j, k]
    if brick < 0:
        return -1
    return brick * 512 + ((x & 7) * 8 + (y & 7)) * 8 + (z & 7)


@wp.func
def cell_at(places: wp.array[wp.vec3i], slot: wp.int32) -> wp.vec3i:
    """The cell whose value lies at `slot`."""
    place = places[slot >> 9]
    return wp.vec3i(
        place[0] * 8 + ((slot >> 6) & 7),
        place[1] * 8 + ((slot >> 3) & 7),
        place[2] * 8 + (slot & 7),
    )


@wp.kernel
def _number(
    flags: wp.array3d[wp.int32],
    ends: wp.array3d[wp.int32],
    index: wp.array3d[wp.int32],
    places: wp.array[wp.vec3i],
) -> None:
    i, j, k = wp.tid()
    index[i, j, k] = -1
    if flags[i, j, k] == 1:
        brick = ends[i, j, k] - 1
        index[i, j, k] = brick
        places[brick] = wp.vec3i(i, j, k)
