"""A picture with alpha becomes the square that the sampler sees: cropped to the object, on black."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import NoObjectFound

MAX_SIDE_PX = 1024
SOLID = 0.8 * 255  # alpha above which a pixel is the object's
MIN_SIDE_PX = 8  # of the object after scaling: less than that shows nothing

Rgba = NDArray[np.uint8]


def shrink(rgba: Rgba) -> Rgba:
    """Scale down so that the longer side has 1024 pixels at most; uint8 [height, width, 4]."""
    height, width = rgba.shape[:2]
    scale = min(1, MAX_SIDE_PX / max(height, width))
    if scale == 1:
        return rgba
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(rgba).resize(size, Image.Resampling.LANCZOS))


def frame(rgba: Rgba) -> NDArray[np.uint8]:
    """The object, cropped to a square around it and laid on black: uint8 [side, side, 3].

    Raises:
        NoObjectFound: the alpha is empty, or all but empty.
    """
    rows, columns = np.nonzero(rgba[..., 3] > SOLID)
    if len(rows) == 0:
        raise NoObjectFound("nothing in the picture stands out from its background")
    left, right, top, bottom = (int(edge) for edge in (columns.min(), columns.max(), rows.min(), rows.max()))
    half = max(right - left, bottom - top) // 2
    if 2 * half < MIN_SIDE_PX:
        raise NoObjectFound("the object is too small to be made out: send a closer picture")
    x, y = (left + right) / 2, (top + bottom) / 2
    cropped = Image.fromarray(rgba).crop((x - half, y - half, x + half, y + half))
    pixels = np.asarray(cropped).astype(np.float32) / 255
    return (pixels[..., :3] * pixels[..., 3:] * 255).astype(np.uint8)


def scale(rgb: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """The square at another size: uint8 [side, side, 3]."""
    return np.array(Image.fromarray(rgb).resize((side_px, side_px), Image.Resampling.LANCZOS))
