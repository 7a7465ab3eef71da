"""The object is cut out of its picture and set in the middle of the grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import NoObjectFound
from worker.engines.relief.resampling import scale

FILL = 0.97  # of the grid's side: the longer side of the object
MIN_MARGIN_CELLS = 4  # between the object and the grid's rim
MIN_OBJECT_PX = 8  # the shorter side of an object that can be made out


@dataclass(frozen=True, slots=True)
class ObjectCrop:
    """The object on the grid, row 0 on top.

    coverage: float32 [side, side] in [0, 1], how much of each cell the object covers.
    colour: float32 [side, side, 3] in [0, 1], sRGB; means something where coverage does.
    opacity: float32 [side, side] in [0, 1], the picture's own alpha.
    cells_per_pixel: how many cells one pixel of the picture spans.
    """

    coverage: NDArray[np.float32]
    colour: NDArray[np.float32]
    opacity: NDArray[np.float32]
    cells_per_pixel: float


def crop_object(rgba: NDArray[np.uint8], matte: NDArray[np.float32], side: int) -> ObjectCrop:
    """Cut out, scale and centre.

    rgba: uint8 [height, width, 4]. matte: float32 [height, width] in [0, 1], the object's share of each pixel.

    Raises:
        NoObjectFound: the matte shows hardly anything.
    """
    rows, columns = (_extent(matte.max(axis=axis) > 0.5) for axis in (1, 0))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if min(height, width) < MIN_OBJECT_PX:
        raise NoObjectFound("no object stands out from the background: send a picture of one object, uncovered")
    factor = (side - 2 * max(MIN_MARGIN_CELLS, round(side * (1 - FILL) / 2))) / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    cut = matte[rows, columns]
    weighted = np.dstack([rgba[rows, columns] * (cut / 255)[..., None], cut])
    scaled = scale(weighted, *size)
    framed = np.zeros((side, side, 5), np.float32)
    left, top = ((side - length) // 2 for length in size)
    framed[top : top + size[1], left : left + size[0]] = scaled
    coverage = np.clip(framed[..., 4], 0, 1)
    straight = np.clip(framed[..., :4] / np.maximum(framed[..., 4:], 1e-4), 0, 1).astype(np.float32)
    return ObjectCrop(coverage, straight[..., :3], straight[..., 3], factor)


def _extent(used: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(used)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)
