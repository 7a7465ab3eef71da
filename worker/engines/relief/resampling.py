"""Scaling and blurring of float rasters with any number of channels, by OpenCV."""

import cv2
import numpy as np
from numpy.typing import NDArray

WIDE_BLUR_CELLS = 6.0  # from this sigma on a blur runs at half size, which nobody can tell


def scale(values: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Scale [rows, columns] or [rows, columns, channels]: areas are averaged downwards, cubic curves drawn upwards."""
    smaller = width < values.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    if values.ndim == 2:
        return np.asarray(cv2.resize(values, (width, height), interpolation=method), np.float32)
    # OpenCV scales four channels at once, no more.
    fours = np.split(values, range(4, values.shape[2], 4), axis=2)
    scaled = (cv2.resize(four, (width, height), interpolation=method).reshape(height, width, -1) for four in fours)
    return np.concatenate(list(scaled), axis=2)


def downscale(pixels: NDArray[np.uint8], longer_px: int) -> NDArray[np.uint8]:
    """Scale [height, width, channels] down until its longer side fits; smaller ones stay as they are."""
    height, width = pixels.shape[:2]
    factor = longer_px / max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def blur(values: NDArray[np.float32], sigma_cells: float) -> NDArray[np.float32]:
    """Gaussian blur of [rows, columns] or [rows, columns, channels]."""
    rows, columns = values.shape[:2]
    if sigma_cells < WIDE_BLUR_CELLS:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_cells), np.float32).reshape(values.shape)
    half = blur(scale(values, (columns + 1) // 2, (rows + 1) // 2), sigma_cells / 2)
    return scale(half, columns, rows)


def blur_within(values: NDArray[np.float32], inside: NDArray[np.bool_], sigma_cells: float) -> NDArray[np.float32]:
    """Gaussian blur of [rows, columns, channels] that takes nothing from outside; far outside nothing changes."""
    weight = inside.astype(np.float32)[..., None]
    total = blur(np.concatenate([values * weight, weight], axis=2), sigma_cells)
    share = total[..., -1:]
    return np.where(share > 1e-3, total[..., :-1] / np.maximum(share, 1e-3), values)
