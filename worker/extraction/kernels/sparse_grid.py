"""A sparse voxel grid of two levels: a dense index of bricks, and 8 x 8 x 8 values for each brick that is used.

It stores values in bricks, as Crassin et al., GigaVoxels, 2009, but finds a brick through one dense index, not a tree.
"""

from dataclasses import dataclass

import warp as wp

SIDE = 8  # cells along a brick's side; kernels divide by it with shifts of 3 bits
VOLUME = SIDE**3


@dataclass(frozen=True, slots=True)
class SparseGrid:
    """Which bricks of a grid are used; both arrays are on one device.

    index: int32 [x, y, z], each brick's number, or -1. brick_coords: vec3i [count], each used brick's x, y and z.
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
        brick_coords = wp.empty(count, dtype=wp.vec3i, device=device)
        inputs = [flags, ends.reshape(flags.shape), index, brick_coords]
        wp.launch(_number_bricks, dim=flags.shape, inputs=inputs, device=device)
        return cls(index, brick_coords, count)


@wp.func
def value_index(index: wp.array3d[wp.int32], x: wp.int32, y: wp.int32, z: wp.int32) -> wp.int32:
    """Return the index of the value of cell (x, y, z), or -1 outside of the grid and in bricks that are not used."""
    if x < 0 or y < 0 or z < 0:
        return -1
    # Find the brick by the upper bits.
    i = x >> 3
    j = y >> 3
    k = z >> 3
    if i >= index.shape[0] or j >= index.shape[1] or k >= index.shape[2]:
        return -1
    brick = index[i, j, k]
    if brick < 0:
        return -1
    # Find the cell inside of the brick by the lower three bits.
    return brick * 512 + ((x & 7) * 8 + (y & 7)) * 8 + (z & 7)


@wp.func
def cell_at(brick_coords: wp.array[wp.vec3i], value: wp.int32) -> wp.vec3i:
    """Return the cell that the value with this index belongs to."""
    brick = brick_coords[value >> 9]
    return wp.vec3i(
        brick[0] * 8 + ((value >> 6) & 7),
        brick[1] * 8 + ((value >> 3) & 7),
        brick[2] * 8 + (value & 7),
    )


@wp.kernel
def _number_bricks(
    flags: wp.array3d[wp.int32],
    ends: wp.array3d[wp.int32],
    index: wp.array3d[wp.int32],
    brick_coords: wp.array[wp.vec3i],
) -> None:
    """Give each flagged brick the next number. ends: the inclusive prefix sum of `flags`."""
    i, j, k = wp.tid()
    index[i, j, k] = -1
    if flags[i, j, k] == 1:
        brick = ends[i, j, k] - 1
        index[i, j, k] = brick
        brick_coords[brick] = wp.vec3i(i, j, k)
