"""Small images with a known object, for the relief engine's tests."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engine import InputImage

SIDE_PX = 200
ORANGE, WHITE, NEARLY_WHITE, GREY = (226, 112, 34), (252, 252, 252), (228, 226, 224), (120, 122, 126)


@cache
def disc_share(radius_px: float = 60, hole_px: float = 0) -> NDArray[np.float32]:
    """Coverage of a disc in the middle, perhaps with a hole, soft by one pixel."""
    axis = np.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    radius = np.hypot(axis[:, None], axis)
    share = np.clip(radius_px - radius + 0.5, 0, 1) * np.clip(radius - hole_px + 0.5, 0, 1)
    return share.astype(np.float32)


def painted(
    share: NDArray[np.float32], colour: tuple[int, int, int], background: NDArray[np.float32], *, noise: float = 1.0
) -> NDArray[np.uint8]:
    """An object of one colour, shaded from its upper left, before a background: uint8 [side, side, 3]."""
    light = 1.05 - 0.2 * np.add.outer(np.linspace(0, 1, SIDE_PX), np.linspace(0, 1, SIDE_PX))
    shaded = light[..., None] * colour
    mixed = shaded * share[..., None] + background * (1 - share[..., None])
    grain = np.random.default_rng(5).normal(0, noise, (SIDE_PX, SIDE_PX, 1))
    return np.clip(mixed + grain, 0, 255).astype(np.uint8)


def plain(colour: tuple[int, int, int] = WHITE, *, shadow: float = 0) -> NDArray[np.float32]:
    """A background that is a little darker towards its foot, with a soft shadow below the middle."""
    fall = np.linspace(1, 0.96, SIDE_PX)[:, None, None]
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    blot = np.exp(-((x / 55) ** 2) - ((y - 62) / 14) ** 2)
    dark = cv2.GaussianBlur(blot, (0, 0), 5)[..., None] * shadow
    return (np.full((SIDE_PX, SIDE_PX, 3), colour) * fall * (1 - dark)).astype(np.float32)


def clutter() -> NDArray[np.float32]:
    """A background of blue and green patches."""
    patches = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 1, (SIDE_PX, SIDE_PX, 1)), (0, 0), 8)[..., None]
    return (np.array([40, 110, 130]) + patches / patches.std() * np.array([8, 40, 40])).astype(np.float32)


def opaque(rgb: NDArray[np.uint8]) -> InputImage:
    """An image without alpha."""
    return InputImage(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]), has_alpha=False)


def cut(share: NDArray[np.float32], colour: tuple[int, int, int] = ORANGE, *, alpha: float = 1) -> InputImage:
    """An image with alpha, whose background still holds a bright green."""
    rgb = painted(share, colour, plain((0, 255, 0)), noise=0)
    return InputImage(np.dstack([rgb, (share * 255 * alpha).astype(np.uint8)]), has_alpha=True)
