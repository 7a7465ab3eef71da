"""The voxels around the surface, painted: front from the picture, back from a blurred picture, sides in between."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.geometry.column_occupancy import expand_runs
from worker.engines.relief.geometry.surface_nets import SurfaceCells
from worker.engines.relief.resampling import blur, blur_within

BACK_BLUR = 0.015  # of the grid's side: letters and faces must not be seen again, mirrored, on the back
SIDE_BLURS = (0.004, 0.012, 0.03)  # of the grid's side, for steeper and steeper sides
SEAM = 0.025  # of the grid's side: how thick the zone is where front turns into back


@dataclass(frozen=True, slots=True)
class ColumnColours:
    """What every column looks like from the front and from behind, and where the two meet.

    front, back: float32 [side, side, 6] along x and y, the surface's attributes. seam: float32 [side, side], cells.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    seam: NDArray[np.float32]

    def at(self, column: NDArray[np.int32], level: NDArray[np.int32]) -> NDArray[np.float32]:
        """The attributes, float32 [voxels, 6], of voxels at a level (from the middle plane) of a column."""
        share = np.clip(0.5 + level / (2 * self.seam.ravel()[column]), 0, 1).astype(np.float32)[:, None]
        share = share * share * (3 - 2 * share)
        back = self.back.reshape(-1, 6)[column]
        return back + (self.front.reshape(-1, 6)[column] - back) * share


def prepare_colours(attributes: NDArray[np.float32], thickness: NDArray[np.float32]) -> ColumnColours:
    """Prepare the paint.

    attributes: float32 [side, side, 6] along x and y. thickness: float32 [side, side], cells, 0 outside.

    Seen from the front a steep side is only a few pixels wide: stretched over the side they would give streaks. So
    the steeper the surface, the wider the blur.
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
    """The corners of every cell that the surface passes through: (column [voxels], level [voxels]), no voxel twice.

    Every point of the surface on this grid lies in such a cell, so trilinear interpolation finds its eight voxels; on a
    surface of somewhat coarser cells it still finds some. Columns are numbered i * side + j; levels count along z from
    the middle plane.
    """
    front_first, front_last = _levels(cells, 0)
    back_first, back_last = _levels(cells, 1)
    # The middle plane belongs to the front.
    front_first = np.where(back_first == 0, 0, front_first)
    front_last = np.where(back_first == 0, np.maximum(front_last, 0), front_last)
    front_column, front_level = expand_runs(front_first.ravel(), front_last.ravel())
    back_column, back_level = expand_runs(np.maximum(back_first, 1).ravel(), back_last.ravel())
    return np.concatenate([front_column, back_column]), np.concatenate([front_level, -back_level])


def _levels(cells: SurfaceCells, half: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first and last level, counted from the middle plane, that the cells around each column touch."""
    nowhere = np.iinfo(np.int32).max
    used = cells.last[half] >= cells.first[half]
    first = np.where(used, cells.first[half], nowhere)
    last = np.where(used, cells.last[half] + 1, -1)
    side = first.shape[0] + 1
    lowest, highest = np.full((side, side), nowhere, np.int32), np.full((side, side), -1, np.int32)
    for i in (0, 1):
        for j in (0, 1):
            place = (slice(i, i + side - 1), slice(j, j + side - 1))
            lowest[place] = np.minimum(lowest[place], first)
            highest[place] = np.maximum(highest[place], last)
    return lowest, highest
