"""The object's material, guessed from one image, and its distribution over the voxels around the surface.

The front shows the image, the back a blurred image, and the sides a transition. Colours are taken from inside the
outline, where no background is mixed in; metal and roughness are guessed from contrast and highlights.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.inflation import nearest_cell
from worker.engines.relief.raster_ops import blur, blur_within
from worker.engines.relief.surface_nets import SurfaceCells, expand_runs

METAL_LIMIT = 0.75  # a guess from one image should not turn anything into a mirror
OPAQUE = 0.9  # alpha from here on is taken as opaque: lossy compression turns 1 into 0.98
GLASS_SHARE = 0.02  # of the object's inside: less translucency than this is noise
GLASS_WIDTH = 1 / 64  # of the grid's side: narrower translucent areas are edges, whose alpha is coverage

BACK_BLUR = 0.015  # of the grid's side: letters and faces must not reappear, mirrored, on the back
SIDE_BLURS = (0.004, 0.012, 0.03)  # of the grid's side, for steeper and steeper sides
SEAM = 0.025  # of the grid's side: the width of the transition from front to back


@dataclass(frozen=True, slots=True)
class ColumnColours:
    """The attributes of every column on the front and on the back, and the width of the transition between them.

    front, back: float32 [side, side, 6] along x and y, the surface's attributes. seam: float32 [side, side], cells.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    seam: NDArray[np.float32]

    def at(self, column: NDArray[np.int32], level: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the attributes, float32 [voxels, 6], of voxels at a level (from the middle plane) of a column."""
        share = np.clip(0.5 + level / (2 * self.seam.ravel()[column]), 0, 1).astype(np.float32)[:, None]
        share = share * share * (3 - 2 * share)
        back = self.back.reshape(-1, 6)[column]
        return back + (self.front.reshape(-1, 6)[column] - back) * share


def extend_inside_colours(
    values: NDArray[np.float32], distance: NDArray[np.float32], edge_cells: float
) -> NDArray[np.float32]:
    """Replace values within `edge_cells` of the outline, or outside, by the nearest ones farther inside.

    Edge pixels are mixed with the background, which would show as a halo on the sides of the body. Where a part is too
    thin to have an inside, its middle is used.

    Args:
        values: float32 [side, side, channels]. distance: float32 [side, side], cells.
    """
    width = int(2 * edge_cells) | 1
    middle = cv2.dilate(distance, np.ones((width, width), np.uint8))
    core = (distance > 0) & (distance >= np.minimum(edge_cells, 0.6 * middle))
    return np.where(core[..., None], values, values[nearest_cell(core)])


def guess_metallic_roughness(colour: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Guess metallic and roughness in [0, 1]: float32 [side, side, 2].

    Metal mirrors its surroundings: strong contrast within a small area, in greys or in the yellows and browns of gold,
    brass and copper. Gloss shows as small highlights.
    """
    side = colour.shape[0]
    hsv = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2HSV), np.float32)
    hue_degrees, saturation, value = np.moveaxis(hsv, -1, 0)
    mean = blur_within(value, inside, side / 50)
    spread = blur_within((value - mean) ** 2, inside, side / 50) ** 0.5
    highlight = _ramp(value - mean, 0.12, 0.4)
    warm = _ramp(saturation, 0.2, 0.4) * (1 - _ramp(np.abs(hue_degrees - 35), 15, 30))
    grey = 1 - _ramp(saturation, 0.08, 0.2)
    metal = METAL_LIMIT * _ramp(spread, 0.08, 0.2) * np.maximum(warm, 0.8 * grey) * _ramp(value, 0.1, 0.3)
    metal = blur_within(metal, inside, side / 128)
    gloss = blur_within(highlight, inside, side / 40)
    roughness = np.clip(0.8 - 1.2 * gloss - 0.35 * metal, 0.25, 0.9)
    return np.stack([metal, roughness], axis=-1).astype(np.float32)


def _ramp(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return 0 at `low` and below, 1 at `high` and above, linear in between."""
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def material_alpha(alpha: NDArray[np.float32], distance: NDArray[np.float32], edge_cells: float) -> NDArray[np.float32]:
    """Return the material's alpha, float32 [side, side, 1]: 1, unless wide areas of the inside are translucent.

    Args:
        alpha: the image's, float32 [side, side]; at the outline it is coverage, not transparency.
    """
    inner = distance > edge_cells
    translucent = inner & (alpha < OPAQUE)
    width = round(GLASS_WIDTH * alpha.shape[0]) | 1
    wide = cv2.morphologyEx(translucent.astype(np.uint8), cv2.MORPH_OPEN, np.ones((width, width), np.uint8))
    if np.count_nonzero(wide) < GLASS_SHARE * max(int(inner.sum()), 1):
        return np.ones((*alpha.shape, 1), np.float32)
    clear = np.where(alpha < OPAQUE, alpha, 1).astype(np.float32)[..., None]
    return extend_inside_colours(clear, distance, edge_cells)


def prepare_colours(attributes: NDArray[np.float32], thickness: NDArray[np.float32]) -> ColumnColours:
    """Blur the front where it is steep, and the back everywhere.

    Seen from the front a steep side is only a few pixels wide; stretched over the side they would give streaks. So the
    steeper the surface, the wider the blur.

    Args:
        attributes: float32 [side, side, 6] along x and y. thickness: float32 [side, side], cells, 0 outside.
    """
    side = thickness.shape[0]
    inside = thickness > 0
    slope = np.hypot(*np.gradient(blur(thickness, 1.0)))
    front = attributes
    for step, width in enumerate(SIDE_BLURS):
        share = np.clip((slope - 1.2 * 1.8**step) / (0.8 * 1.8**step), 0, 1)[..., None]
        front = front + (blur_within(attributes, inside, side * width) - front) * share
    reach = round(SEAM * side) | 1
    body = cv2.dilate(thickness, np.ones((reach, reach), np.uint8))
    seam = np.clip(0.5 * np.asarray(body, np.float32), 1, SEAM * side)
    return ColumnColours(front, blur_within(attributes, inside, side * BACK_BLUR), seam)


def surface_voxels(cells: SurfaceCells) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the corners of every cell that the surface crosses: (column [voxels], level [voxels]), no voxel twice.

    Every point of a surface on this grid is in such a cell, so trilinear interpolation finds its eight voxels; on a
    surface of somewhat coarser cells it still finds some. Columns are numbered i * side + j; levels count along z from
    the middle plane.
    """
    front_first, front_last = _level_ranges(cells, 0)
    back_first, back_last = _level_ranges(cells, 1)
    # The middle plane belongs to the front.
    front_first = np.where(back_first == 0, 0, front_first)
    front_last = np.where(back_first == 0, np.maximum(front_last, 0), front_last)
    front_column, front_level = expand_runs(front_first.ravel(), front_last.ravel())
    back_column, back_level = expand_runs(np.maximum(back_first, 1).ravel(), back_last.ravel())
    return np.concatenate([front_column, back_column]), np.concatenate([front_level, -back_level])


def _level_ranges(cells: SurfaceCells, half: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the first and last level, counted from the middle plane, that the cells around each column touch."""
    nowhere = np.iinfo(np.int32).max
    used = cells.last[half] >= cells.first[half]
    first = np.where(used, cells.first[half], nowhere)
    last = np.where(used, cells.last[half] + 1, -1)
    side = first.shape[0] + 1
    lowest, highest = np.full((side, side), nowhere, np.int32), np.full((side, side), -1, np.int32)
    for i in (0, 1):
        for j in (0, 1):
            window = (slice(i, i + side - 1), slice(j, j + side - 1))
            lowest[window] = np.minimum(lowest[window], first)
            highest[window] = np.maximum(highest[window], last)
    return lowest, highest
