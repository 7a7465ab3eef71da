"""The object is told from the background of an opaque picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.foreground.background_model import border_mask, fit_background, to_lab
from worker.engines.relief.foreground.morphology import disc
from worker.engines.relief.foreground.plain_background import segment_on_plain
from worker.engines.relief.resampling import downscale, scale

WORK_PX = 640  # the longer side at which the picture is looked at
FINE_PX = 1280  # the longer side at which the cut is refined
CLUTTER_PX = 320  # the longer side at which GrabCut works
GRABCUT_ROUNDS = 3
MIN_SIDE_PX = 16  # a narrower strip has no border to judge its background by
MIN_SHARE, MAX_SHARE = 0.002, 0.97  # of the picture: what else is found is no object


def segment_object(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The object's share of every pixel, float32 [height, width] in [0, 1]; all zero where nothing is found.

    A plain backdrop is modelled and its soft shadows are dropped; before any other background GrabCut decides
    (Rother, Kolmogorov and Blake, 2004).
    """
    nothing = np.zeros(rgb.shape[:2], np.float32)
    small = downscale(rgb, WORK_PX)
    if min(small.shape[:2]) < MIN_SIDE_PX:
        return nothing
    lab = to_lab(small)
    backdrop = fit_background(lab)
    inside = segment_on_plain(small, lab, backdrop) if backdrop.is_plain else _from_clutter(small)
    if not MIN_SHARE < inside.mean() < MAX_SHARE:
        return nothing
    fine = downscale(rgb, FINE_PX)
    share = _follow_edges(scale(inside.astype(np.float32), fine.shape[1], fine.shape[0]), fine)
    return np.clip(scale(share, rgb.shape[1], rgb.shape[0]), 0, 1)


def _from_clutter(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    view = downscale(small, CLUTTER_PX)
    ring = border_mask(view.shape[0], view.shape[1])
    mask = np.where(ring, cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    backdrop_model, object_model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(view[..., ::-1])
    cv2.grabCut(bgr, mask, (0, 0, 1, 1), backdrop_model, object_model, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    opened = cv2.morphologyEx(inside, cv2.MORPH_OPEN, disc(3))
    closed = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc(5)), np.float32)
    return scale(closed, small.shape[1], small.shape[0]) > 0.5


def _follow_edges(share: NDArray[np.float32], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Move a coarse cut onto the picture's own edges: the guided filter of He, Sun and Tang (2010)."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = (9, 9)
    mean_guide, mean_share = cv2.blur(guide, size), cv2.blur(share, size)
    slope = (cv2.blur(guide * share, size) - mean_guide * mean_share) / (
        cv2.blur(guide * guide, size) - mean_guide**2 + 1e-4
    )
    offset = mean_share - slope * mean_guide
    soft = cv2.blur(slope, size) * guide + cv2.blur(offset, size)
    return np.asarray(np.clip((soft - 0.5) * 2 + 0.5, 0, 1), np.float32)
