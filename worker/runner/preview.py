"""Previews: what a job is about to be made from, small enough to travel in its record."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 96
MAX_BYTES = 3_000
QUALITIES = (70, 45, 20, 0)


def thumbnail(picture: NDArray[np.uint8]) -> bytes | None:
    """A WebP of MAX_BYTES at most; None where the picture cannot be made so small.

    picture: uint8 [height, width, 3 or 4], sRGB, straight alpha.
    """
    step = max(1, min(picture.shape[:2]) // (4 * SIDE_PX))  # a few times too large is good enough to begin with
    image = Image.fromarray(np.ascontiguousarray(picture[::step, ::step]))
    image.thumbnail((SIDE_PX, SIDE_PX))
    for quality in QUALITIES:
        out = BytesIO()
        image.save(out, "WEBP", quality=quality, alpha_quality=quality)
        if out.tell() <= MAX_BYTES:
            return out.getvalue()
    return None
