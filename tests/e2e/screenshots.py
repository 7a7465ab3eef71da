"""What can be seen in a screenshot."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator

VISIBLE = 24  # of 255, by which a pixel must differ from another to be told apart from it


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture of a part of the page. pixels: int16 [height, width, 3]."""

    pixels: NDArray[np.int16]

    @property
    def share_of_object(self) -> float:
        """How much of it differs from its left edge, which shows the background."""
        background = self.pixels[:, :1]
        return float((np.abs(self.pixels - background).max(-1) > VISIBLE).mean())

    @property
    def colours(self) -> int:
        """How many clearly different colours there are."""
        coarse = self.pixels // 32
        return len(np.unique(coarse.reshape(-1, 3), axis=0))

    def share_unlike(self, other: "Sight") -> float:
        """How much of it differs from another."""
        return float((np.abs(self.pixels - other.pixels).max(-1) > VISIBLE).mean())


def sight(place: Locator) -> Sight:
    """A part of the page as it looks now."""
    with Image.open(io.BytesIO(place.screenshot())) as shot:
        return Sight(np.asarray(shot.convert("RGB")).astype(np.int16))
