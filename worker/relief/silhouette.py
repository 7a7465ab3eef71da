"""Which pixels are the object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.contract import Background
from worker.engine import Picture

SPECK_SHARE = 0.003  # of the largest piece: smaller ones are dust


def matte(picture: Picture, background: Background) -> NDArray[np.float32]:
    """The object's share of every pixel, float32 [height, width] in [0, 1]; all zero where nothing is found.

    background: `auto` takes the alpha channel where there is one, else removes the background; `keep` takes the
    alpha channel or else the whole picture; `remove` removes the background whatever the alpha channel says.
    """
    alpha = picture.rgba[..., 3].astype(np.float32) / 255
    if background == "keep" or (background == "auto" and picture.has_alpha):
        share = np.clip(alpha * 2, 0, 1)
    else:
        share = alpha
    return share * _largest_pieces(share > 0.5)


def _largest_pieces(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas >= SPECK_SHARE * areas.max()
    keep[0] = False
    return np.asarray(cv2.dilate(keep[labels].astype(np.uint8), np.ones((5, 5), np.uint8)), np.bool_)
