"""Measurements of screenshots."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator

VISIBLE = 24  # of 255: the smallest difference of two pixels that counts


@dataclass(frozen=True, slots=True)
class Screenshot:
    """An image of a part of the page. pixels: int16 [height, width, 3]."""

    pixels: NDArray[np.int16]

    @property
    def share_of_object(self) -> float:
        """The share of pixels that differ from the left edge, which shows the background."""
        background = self.pixels[:, :1]
        return float((np.abs(self.pixels - background).max(-1) > VISIBLE).mean())

    @property
    def colours(self) -> int:
        """The number of clearly different colours."""
        coarse = self.pixels // 32
        return len(np.unique(coarse.reshape(-1, 3), axis=0))

    def difference(self, reference: "Screenshot") -> float:
        """The share of pixels that differ from another screenshot."""
        return float((np.abs(self.pixels - reference.pixels).max(-1) > VISIBLE).mean())


def take_screenshot(element: Locator) -> Screenshot:
    """Take a screenshot of a part of the page."""
    with Image.open(io.BytesIO(element.screenshot())) as shot:
        return Screenshot(np.asarray(shot.convert("RGB")).astype(np.int16))
