"""Regions of pixels: grown, shrunk, reached, and told apart by their size."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray


def disc(width_px: int) -> NDArray[np.uint8]:
    """A disc to grow and shrink by."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px)), np.uint8)


def grow(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The region and what lies within half of `width_px`."""
    return np.asarray(cv2.dilate(region.astype(np.uint8), disc(width_px)), np.bool_)


def shrink(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The region without what lies within half of `width_px` of its edge."""
    return np.asarray(cv2.erode(region.astype(np.uint8), disc(width_px)), np.bool_)


def open_region(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The region without what is narrower than `width_px`."""
    return grow(shrink(region, width_px), width_px)


def close_region(region: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The region with gaps narrower than `width_px` bridged."""
    return np.asarray(cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, disc(width_px)), np.bool_)


def flood_from_border(passable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What can be walked to from the picture's border."""
    _, labels = cv2.connectedComponents(passable.astype(np.uint8), connectivity=4)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, rim[rim > 0]))


def convex_hull(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull."""
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
    """The connected pieces that qualify by their area and by how much of it lies `near`, both in pixels."""
    _, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    count = int(labels.max()) + 1
    chosen = qualify(np.bincount(labels.ravel(), minlength=count), np.bincount(labels[near], minlength=count))
    chosen[0] = False
    return np.asarray(chosen[labels])
