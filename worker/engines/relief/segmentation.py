"""Segment the object: its alpha matte, from the alpha channel or from the pixels, and its crop on the grid.

An opaque image with a plain background is segmented by `plain_background`; before any other background GrabCut decides
(Rother, Kolmogorov and Blake 2004). A guided filter (He, Sun and Tang 2010) moves the result onto the image's edges.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain.parameters import Background
from shared.errors import NoObjectFound
from worker.engines.relief.plain_background import border_mask, fit_background, segment_on_plain, to_lab
from worker.engines.relief.raster_ops import disc, downscale, scale

DUST_SHARE = 0.003  # of the largest component: smaller ones are dust
PINHOLE_SHARE = 0.001  # of the object: smaller holes are dust as well, and would go right through the body
GLASS_ALPHA = 0.12  # less is taken for smoke, glow, or remains of a background
SHADOW_ALPHA, SHADOW_VALUE = 0.6, 0.2  # less alpha, and darker: a shadow that was left with its object
SOFT_EDGE_SHARE = 0.006  # of the longer side: the largest width of an opaque object's soft edge

WORK_PX = 640  # the longer side at which the image is segmented
FINE_PX = 1280  # the longer side at which the edges are refined
GRABCUT_PX = 320  # the longer side at which GrabCut works
GRABCUT_ROUNDS = 3
MIN_SIDE_PX = 16  # a narrower image has too small a border to model the background
MIN_SHARE, MAX_SHARE = 0.002, 0.97  # of the image: a segment outside of this range is no object

FILL = 0.97  # of the grid's side: the longer side of the object
MIN_MARGIN_CELLS = 4  # between the object and the grid's edge
MIN_OBJECT_PX = 8  # the shorter side of the smallest usable object


@dataclass(frozen=True, slots=True)
class ObjectCrop:
    """The object on the grid, row 0 on top.

    coverage: float32 [side, side] in [0, 1], how much of each cell the object covers.
    colour: float32 [side, side, 3] in [0, 1], sRGB; defined where coverage is above 0.
    opacity: float32 [side, side] in [0, 1], the image's own alpha.
    cells_per_pixel: how many cells one pixel of the image spans.
    """

    coverage: NDArray[np.float32]
    colour: NDArray[np.float32]
    opacity: NDArray[np.float32]
    cells_per_pixel: float


def extract_matte(rgba: NDArray[np.uint8], background: Background, *, has_alpha: bool) -> NDArray[np.float32]:
    """Return the object's share of every pixel, float32 [height, width] in [0, 1]; all 0 if there is no object.

    Args:
        rgba: uint8 [height, width, 4].
        background: `auto` takes the alpha channel if there is one, else removes the background; `keep` takes the alpha
            channel, or else the whole image; `remove` removes the background and ignores the alpha channel.
    """
    if background == "remove" or (background == "auto" and not has_alpha):
        share = segment_object(_on_white(rgba) if has_alpha else rgba[..., :3])
    else:
        share = _alpha_coverage(rgba) if has_alpha else np.ones(rgba.shape[:2], np.float32)
    inside = share > 0.5
    pinholes = _small_components(~inside, below=PINHOLE_SHARE * inside.sum())
    filled = np.where(pinholes, 1, share)
    return (filled * ~_small_components(inside | pinholes, below_largest=DUST_SHARE)).astype(np.float32)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _alpha_coverage(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn alpha into coverage: at the edge of an opaque object it is coverage, inside of glass it is transparency.

    Alpha is divided by the largest alpha nearby, so that glass counts as fully covered.
    """
    alpha = rgba[..., 3] / np.float32(255)
    width = 2 * max(2, round(SOFT_EDGE_SHARE * max(alpha.shape))) + 1
    nearby = np.asarray(cv2.dilate(alpha, np.ones((width, width), np.uint8)), np.float32)
    share = np.where(alpha < GLASS_ALPHA, np.minimum(alpha, 0.4), alpha / np.maximum(nearby, GLASS_ALPHA))
    shadow = (nearby < SHADOW_ALPHA) & (rgba[..., :3].max(axis=-1) < 255 * SHADOW_VALUE)
    return np.where(shadow, 0, share).astype(np.float32)


def _small_components(region: NDArray[np.bool_], *, below: float = 0, below_largest: float = 0) -> NDArray[np.bool_]:
    """Return the connected components smaller than `below` pixels, or than `below_largest` times the largest one."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    areas = np.asarray(stats[:, cv2.CC_STAT_AREA], np.float64)
    areas[0] = 0
    small = areas < max(below, below_largest * float(areas.max()))
    small[0] = False
    return np.asarray(small[labels])


def segment_object(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the object's share of every pixel of an opaque image, float32 [height, width] in [0, 1]; 0 if none."""
    nothing = np.zeros(rgb.shape[:2], np.float32)
    small = downscale(rgb, WORK_PX)
    if min(small.shape[:2]) < MIN_SIDE_PX:
        return nothing
    lab = to_lab(small)
    background = fit_background(lab)
    inside = segment_on_plain(small, lab, background) if background.is_plain else _run_grabcut(small)
    if not MIN_SHARE < inside.mean() < MAX_SHARE:
        return nothing
    fine = downscale(rgb, FINE_PX)
    share = _snap_to_edges(scale(inside.astype(np.float32), fine.shape[1], fine.shape[0]), fine)
    return np.clip(scale(share, rgb.shape[1], rgb.shape[0]), 0, 1)


def _run_grabcut(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    view = downscale(small, GRABCUT_PX)
    border = border_mask(view.shape[0], view.shape[1])
    mask = np.where(border, cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    background_model, object_model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(view[..., ::-1])
    cv2.grabCut(bgr, mask, (0, 0, 1, 1), background_model, object_model, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    opened = cv2.morphologyEx(inside, cv2.MORPH_OPEN, disc(3))
    closed = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc(5)), np.float32)
    return scale(closed, small.shape[1], small.shape[0]) > 0.5


def _snap_to_edges(share: NDArray[np.float32], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Move a coarse matte onto the image's edges: the guided filter, then twice the contrast."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = (9, 9)
    mean_guide, mean_share = cv2.blur(guide, size), cv2.blur(share, size)
    slope = (cv2.blur(guide * share, size) - mean_guide * mean_share) / (
        cv2.blur(guide * guide, size) - mean_guide**2 + 1e-4
    )
    offset = mean_share - slope * mean_guide
    soft = cv2.blur(slope, size) * guide + cv2.blur(offset, size)
    return np.asarray(np.clip((soft - 0.5) * 2 + 0.5, 0, 1), np.float32)


def crop_object(rgba: NDArray[np.uint8], matte: NDArray[np.float32], side: int) -> ObjectCrop:
    """Crop the object, scale it to the grid and centre it.

    Args:
        rgba: uint8 [height, width, 4]. matte: float32 [height, width] in [0, 1]. side: cells along the grid's side.

    Raises:
        NoObjectFound: the matte shows hardly anything.
    """
    rows, columns = (_extent(matte.max(axis=axis) > 0.5) for axis in (1, 0))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if min(height, width) < MIN_OBJECT_PX:
        raise NoObjectFound("no object stands out from the background: send an image of one object, uncovered")
    factor = (side - 2 * max(MIN_MARGIN_CELLS, round(side * (1 - FILL) / 2))) / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    cropped = matte[rows, columns]
    # Premultiplied, so that scaling does not mix in the colours of the background.
    weighted = np.dstack([rgba[rows, columns] * (cropped / 255)[..., None], cropped])
    scaled = scale(weighted, *size)
    centred = np.zeros((side, side, 5), np.float32)
    left, top = ((side - length) // 2 for length in size)
    centred[top : top + size[1], left : left + size[0]] = scaled
    coverage = np.clip(centred[..., 4], 0, 1)
    straight = np.clip(centred[..., :4] / np.maximum(centred[..., 4:], 1e-4), 0, 1).astype(np.float32)
    return ObjectCrop(coverage, straight[..., :3], straight[..., 3], factor)


def _extent(used: NDArray[np.bool_]) -> slice:
    """Return the range from the first true item to the last; empty if none is true."""
    indices = np.flatnonzero(used)
    return slice(int(indices[0]), int(indices[-1]) + 1) if indices.size else slice(0, 0)
