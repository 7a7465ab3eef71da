"""Raster operations by OpenCV: resampling and blur of float images, morphology of pixel regions."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

WIDE_BLUR_CELLS = 6.0  # from this sigma on, a blur runs at half size, without a visible difference


def scale(values: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Resize [rows, columns] or [rows, columns, channels]: area average downwards, bicubic upwards."""
    is_smaller = width < values.shape[1]
    method = cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC
    if values.ndim == 2:
        return np.asarray(cv2.resize(values, (width, height), interpolation=method), np.float32)
    # OpenCV resizes at most four channels at once.
    fours = np.split(values, range(4, values.shape[2], 4), axis=2)
    scaled = (cv2.resize(four, (width, height), interpolation=method).reshape(height, width, -1) for four in fours)
    return np.concatenate(list(scaled), axis=2)


def downscale(pixels: NDArray[np.uint8], longer_px: int) -> NDArray[np.uint8]:
    """Reduce [height, width, channels] until its longer side fits; return smaller images unchanged."""
    height, width = pixels.shape[:2]
    factor = longer_px / max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def blur(values: NDArray[np.float32], sigma_cells: float) -> NDArray[np.float32]:
    """Blur [rows, columns] or [rows, columns, channels] with a Gaussian."""
    rows, columns = values.shape[:2]
    if sigma_cells < WIDE_BLUR_CELLS:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_cells), np.float32).reshape(values.shape)
    half = blur(scale(values, (columns + 1) // 2, (rows + 1) // 2), sigma_cells / 2)
    return scale(half, columns, rows)


def blur_within(values: NDArray[np.float32], inside: NDArray[np.bool_], sigma_cells: float) -> NDArray[np.float32]:
    """Blur like `blur`, but ignore values outside; far outside nothing changes."""
    layers = values.reshape(*inside.shape, -1)
    weight = inside.astype(np.float32)[..., None]
    total = blur(np.concatenate([layers * weight, weight], axis=2), sigma_cells)
    share = total[..., -1:]
    return np.where(share > 1e-3, total[..., :-1] / np.maximum(share, 1e-3), layers).reshape(values.shape)


def disc(width_px: int) -> NDArray[np.uint8]:
    """Return a disc as structuring element."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px)), np.uint8)


def grow(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Dilate: add all pixels within half of `width_px`."""
    return np.asarray(cv2.dilate(region.astype(np.uint8), disc(width_px)), np.bool_)


def shrink(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Erode: remove all pixels within half of `width_px` of the region's edge."""
    return np.asarray(cv2.erode(region.astype(np.uint8), disc(width_px)), np.bool_)


def open_region(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Remove parts narrower than `width_px`."""
    return grow(shrink(region, width_px), width_px)


def close_region(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Bridge gaps narrower than `width_px`."""
    return np.asarray(cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, disc(width_px)), np.bool_)


def flood_from_border(passable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the passable pixels that are connected to the image's border."""
    _, labels = cv2.connectedComponents(passable.astype(np.uint8), connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, border[border > 0]))


def convex_hull(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the region's convex hull."""
    filled = np.zeros(region.shape, np.uint8)
    points = cv2.findNonZero(region.astype(np.uint8))
    if points is not None:
        cv2.fillConvexPoly(filled, cv2.convexHull(points), (1,))
    return filled > 0


def select_components(
    region: NDArray[np.bool_],
    near: NDArray[np.bool_],
    qualify: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Keep the connected components that qualify.

    Args:
        qualify: takes the components' areas, and their overlaps with `near`, both in pixels; item 0 is the background.
    """
    _, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    count = int(labels.max()) + 1
    chosen = qualify(np.bincount(labels.ravel(), minlength=count), np.bincount(labels[near], minlength=count))
    chosen[0] = False
    return np.asarray(chosen[labels])
