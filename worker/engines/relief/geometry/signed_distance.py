"""The object's outline on the grid: a signed distance that knows more than whole cells."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.resampling import blur, scale

SUPERSAMPLING = 2


def signed_distance(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance to the outline at the centre of every cell, in cells, positive inside.

    alpha: float32 [rows, columns], coverage in [0, 1]; the outline lies where it passes one half.
    Returns float32 [rows, columns]. Measured on a grid twice as fine, so that the outline is smooth to a fraction of
    a cell, and details of one cell's width survive.
    """
    rows, columns = alpha.shape
    inside = (scale(alpha, columns * SUPERSAMPLING, rows * SUPERSAMPLING) > 0.5).astype(np.uint8)
    distance = _distance(inside) - _distance(1 - inside)
    return scale(blur(distance, 1.0), columns, rows) / np.float32(SUPERSAMPLING)


def nearest_cell(wanted: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(row, column) of the nearest wanted cell, for every cell; some cell must be wanted."""
    _, labels = cv2.distanceTransformWithLabels(
        (~wanted).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.flatnonzero(wanted)
    place_of = np.zeros(labels.max() + 1, np.intp)
    place_of[labels.ravel()[places]] = places
    return np.divmod(place_of[labels], wanted.shape[1])


def _distance(inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Measured between cell centres; the outline runs half a cell before the first centre outside.
    return np.asarray(np.maximum(distance - 0.5, 0), np.float32)
