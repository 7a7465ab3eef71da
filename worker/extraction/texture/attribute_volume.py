"""A surface's material in a sparse voxel volume, sampled by trilinear interpolation."""

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.sparse_grid import SIDE, VOLUME, SparseGrid, value_index

SEARCH_CELLS = 4  # radius in which a sample searches for the closest filled cell


@wp.struct
class AttributeVolume:
    """Filled cells and their material, on one device.

    index: of the sparse grid. row: int32, for each cell of each used brick the row in `attributes`, or -1. attributes:
    float32 [voxels, 6], red, green, blue (sRGB-encoded), metallic, roughness, alpha, 0-1. resolution: cells along the
    grid's side.
    """

    index: wp.array3d[wp.int32]
    row: wp.array[wp.int32]
    attributes: wp.array2d[wp.float32]
    resolution: wp.float32


def index_voxels(
    coords: NDArray[np.int32], attributes: NDArray[np.float32], resolution: int, device: str
) -> AttributeVolume:
    """Index voxels; coords: int32 [voxels, 3], attributes: float32 [voxels, 6]."""
    cells = wp.array(np.ascontiguousarray(coords), dtype=wp.vec3i, device=device)
    side = (resolution + SIDE - 1) // SIDE
    flags = wp.zeros((side, side, side), dtype=wp.int32, device=device)
    wp.launch(_flag_bricks, dim=len(coords), inputs=[cells, flags], device=device)
    grid = SparseGrid.from_flags(flags)
    volume = AttributeVolume()
    volume.index, volume.resolution = grid.index, resolution
    volume.row = wp.full(grid.count * VOLUME, -1, dtype=wp.int32, device=device)
    volume.attributes = wp.array(attributes, dtype=wp.float32, device=device)
    wp.launch(_index_cells, dim=len(coords), inputs=[cells, grid.index, volume.row], device=device)
    return volume


@wp.struct
class Material:
    """A sample. colour: sRGB-encoded. surface: metallic, roughness, alpha. filled: 1 if a cell was found, else 0."""

    colour: wp.vec3
    surface: wp.vec3
    filled: wp.int32


@wp.func
def _add(total: Material, attributes: wp.array2d[wp.float32], row: wp.int32, weight: wp.float32) -> Material:
    total.colour += weight * wp.vec3(attributes[row, 0], attributes[row, 1], attributes[row, 2])
    total.surface += weight * wp.vec3(attributes[row, 3], attributes[row, 4], attributes[row, 5])
    return total


@wp.func
def sample(volume: AttributeVolume, at: wp.vec3) -> Material:
    """Interpolate between the filled ones of the eight cells around `at`; else take the closest within SEARCH_CELLS.

    at: in cells; a cell's centre is at +0.5.
    """
    # Find the lowest of the eight cells, and the fractions towards the next ones.
    x = int(wp.floor(at[0] - 0.5))
    y = int(wp.floor(at[1] - 0.5))
    z = int(wp.floor(at[2] - 0.5))
    u = at[0] - 0.5 - float(x)
    v = at[1] - 0.5 - float(y)
    w = at[2] - 0.5 - float(z)
    # Add up the filled cells with their trilinear weights.
    total = Material()
    sum = float(0.0)
    for corner in range(8):
        dx = corner & 1
        dy = (corner >> 1) & 1
        dz = corner >> 2
        value = value_index(volume.index, x + dx, y + dy, z + dz)
        if value >= 0 and volume.row[value] >= 0:
            weight = wp.where(dx == 1, u, 1.0 - u) * wp.where(dy == 1, v, 1.0 - v) * wp.where(dz == 1, w, 1.0 - w)
            total = _add(total, volume.attributes, volume.row[value], weight)
            sum += weight
    # Divide by the sum of the weights, as some cells may be empty.
    if sum > 1.0e-4:
        total.colour = total.colour / sum
        total.surface = total.surface / sum
        total.filled = 1
    else:
        total = _sample_closest(volume, at)
    return total


@wp.func
def _sample_closest(volume: AttributeVolume, at: wp.vec3) -> Material:
    """Return the material of the filled cell with the closest centre, the first of equals."""
    x = int(wp.floor(at[0]))
    y = int(wp.floor(at[1]))
    z = int(wp.floor(at[2]))
    best = int(-1)
    best_distance = float(1.0e9)
    for i in range(-SEARCH_CELLS, SEARCH_CELLS + 1):
        for j in range(-SEARCH_CELLS, SEARCH_CELLS + 1):
            for k in range(-SEARCH_CELLS, SEARCH_CELLS + 1):
                value = value_index(volume.index, x + i, y + j, z + k)
                if value >= 0 and volume.row[value] >= 0:
                    centre = wp.vec3(float(x + i) + 0.5, float(y + j) + 0.5, float(z + k) + 0.5)
                    distance = wp.length_sq(centre - at)
                    if distance < best_distance:
                        best = volume.row[value]
                        best_distance = distance
    total = Material()
    if best >= 0:
        total = _add(total, volume.attributes, best, 1.0)
        total.filled = 1
    return total


@wp.kernel
def _flag_bricks(cells: wp.array[wp.vec3i], flags: wp.array3d[wp.int32]) -> None:
    c = cells[wp.tid()]
    flags[c[0] >> 3, c[1] >> 3, c[2] >> 3] = 1


@wp.kernel
def _index_cells(cells: wp.array[wp.vec3i], index: wp.array3d[wp.int32], row: wp.array[wp.int32]) -> None:
    i = wp.tid()
    c = cells[i]
    row[value_index(index, c[0], c[1], c[2])] = i
