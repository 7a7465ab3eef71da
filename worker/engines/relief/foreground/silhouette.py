"""Which pixels are the object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain.parameters import Background
from worker.engines.relief.foreground.segmentation import segment_object

SPECK_SHARE = 0.003  # of the largest piece: smaller ones are dust
PINHOLE_SHARE = 0.001  # of the object: smaller holes are dust as well, and would go right through the body
GLASS_ALPHA = 0.12  # less is taken for smoke, glow, or the rest of a background
SHADOW_ALPHA, SHADOW_VALUE = 0.6, 0.2  # less alpha, and darker: a shadow that was left with its object
RIM_SHARE = 0.006  # of the longer side: how far the soft rim of an opaque object may reach


def extract_matte(rgba: NDArray[np.uint8], background: Background, *, has_alpha: bool) -> NDArray[np.float32]:
    """The object's share of every pixel, float32 [height, width] in [0, 1]; all zero where nothing is found.

    rgba: uint8 [height, width, 4]. background: `auto` takes the alpha channel where there is one, else removes the
    background; `keep` takes the alpha channel or else the whole picture; `remove` removes the background whatever the
    alpha channel says.
    """
    if background == "remove" or (background == "auto" and not has_alpha):
        share = segment_object(_on_white(rgba) if has_alpha else rgba[..., :3])
    else:
        share = _covered(rgba) if has_alpha else np.ones(rgba.shape[:2], np.float32)
    inside = share > 0.5
    pinholes = _pieces(~inside, below=PINHOLE_SHARE * inside.sum())
    whole = np.where(pinholes, 1, share)
    return (whole * ~_pieces(inside | pinholes, below_largest=SPECK_SHARE)).astype(np.float32)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _covered(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Alpha as coverage: half of it at the rim of something opaque is half covered, and all over a glass is glass."""
    alpha = rgba[..., 3] / np.float32(255)
    width = 2 * max(2, round(RIM_SHARE * max(alpha.shape))) + 1
    around = np.asarray(cv2.dilate(alpha, np.ones((width, width), np.uint8)), np.float32)
    share = np.where(alpha < GLASS_ALPHA, np.minimum(alpha, 0.4), alpha / np.maximum(around, GLASS_ALPHA))
    shadow = (around < SHADOW_ALPHA) & (rgba[..., :3].max(axis=-1) < 255 * SHADOW_VALUE)
    return np.where(shadow, 0, share).astype(np.float32)


def _pieces(places: NDArray[np.bool_], *, below: float = 0, below_largest: float = 0) -> NDArray[np.bool_]:
    """The connected pieces smaller than `below` pixels, or than `below_largest` times the largest piece."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(places.astype(np.uint8), connectivity=8)
    areas = np.asarray(stats[:, cv2.CC_STAT_AREA], np.float64)
    areas[0] = 0
    small = areas < max(below, below_largest * float(areas.max()))
    small[0] = False
    return np.asarray(small[labels])
