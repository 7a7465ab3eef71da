"""The object is told from the background of an opaque picture."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.relief.backdrop import Backdrop, border, fit, to_lab
from worker.relief.rasters import scale, shrink

WORK_PX = 640  # the longer side at which the picture is looked at
FINE_PX = 1280  # the longer side at which the cut is refined
CLUTTER_PX = 320  # the longer side at which GrabCut works
CHROMA_STEP = 5.0  # CIELAB units: shadows are darker than the backdrop, but hardly of another colour
DARKER_THAN_SHADOW = 40.0  # CIELAB L below the backdrop that no soft shadow reaches
STEEP = 2.5  # CIELAB units a pixel: soft shadows change more slowly than the edges of things
SHARP = 1.2  # CIELAB units from the mean around: soft shadows bend more slowly too
GAPS_PX = (5, 13, 27)  # in an object's edge, bridged: the smallest that keeps the background from flowing in
LEAK_SHARE = 0.15  # of the edge's hull: where less is kept, the background has flowed in
HOLE_STEP, MAX_HOLE_STEP = 2.0, 7.0  # CIELAB units: a hole shows the backdrop itself, or nearly
MIN_SHARE, MAX_SHARE = 0.002, 0.97  # of the picture: what else is found is no object


def cut_out(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The object's share of every pixel, float32 [height, width] in [0, 1]; all zero where nothing is found.

    A plain backdrop is modelled and its soft shadows are dropped; before any other background GrabCut decides
    (Rother, Kolmogorov and Blake, 2004).
    """
    small = shrink(rgb, WORK_PX)
    lab = to_lab(small)
    backdrop = fit(lab)
    inside = _from_plain(small, lab, backdrop) if backdrop.is_plain else _from_clutter(small)
    if not MIN_SHARE < inside.mean() < MAX_SHARE:
        return np.zeros(rgb.shape[:2], np.float32)
    fine = shrink(rgb, FINE_PX)
    share = _follow_edges(scale(inside.astype(np.float32), fine.shape[1], fine.shape[0]), fine)
    return np.clip(scale(share, rgb.shape[1], rgb.shape[0]), 0, 1)


def _from_plain(small: NDArray[np.uint8], lab: NDArray[np.float32], backdrop: Backdrop) -> NDArray[np.bool_]:
    noise = max(backdrop.noise, 0.5)
    lightness = lab[..., 0] - backdrop.lab[..., 0]
    hue_shift = _hue_shift(lab, backdrop)
    foreign = (
        (hue_shift > max(CHROMA_STEP, 4 * noise)) | (lightness > 4 * noise + 2) | (lightness < -DARKER_THAN_SHADOW)
    )
    edges = _edges(lab)
    outside = _outside(foreign, edges)
    # The wall is as thick as the filters' window: the edge runs in its middle.
    deep_inside = cv2.erode((~outside).astype(np.uint8), _disc(13)) > 0
    object_seed = deep_inside | (cv2.erode(foreign.astype(np.uint8), _disc(3)) > 0)
    distance = np.linalg.norm(lab - backdrop.lab, axis=-1)
    bare = _reached_from_border(outside & (distance < 3 * noise + 1))
    backdrop_seed = (cv2.erode(bare.astype(np.uint8), _disc(3)) > 0) | _frame_line(outside)
    inside = _watershed(small, object_seed, backdrop_seed)
    shadow = ~foreign & ~edges & (lightness < 0)
    return _without_holes(inside, distance, shadow, noise)


def _hue_shift(lab: NDArray[np.float32], backdrop: Backdrop) -> NDArray[np.float32]:
    """How far the colour lies from the backdrop's under less light: there CIELAB's a and b shrink along with L + 16."""
    dimming = np.minimum((lab[..., :1] + 16) / (backdrop.lab[..., :1] + 16), 1)
    return np.asarray(np.linalg.norm(lab[..., 1:] - backdrop.lab[..., 1:] * dimming, axis=-1), np.float32)


def _edges(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the colour changes faster than a soft shadow does, and more than the border's noise."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.8)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    steep = np.sqrt((across**2 + down**2).sum(axis=-1))
    sharp = np.linalg.norm(smooth - cv2.GaussianBlur(lab, (0, 0), 2.2), axis=-1)
    ring = border(*lab.shape[:2])
    steep_limit, sharp_limit = (2.5 * float(np.percentile(map_[ring], 80)) for map_ in (steep, sharp))
    return np.asarray((steep > max(STEEP, steep_limit)) | (sharp > max(SHARP, sharp_limit)))


def _outside(foreign: NDArray[np.bool_], edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What the background floods: the gaps in the object's edge are bridged as far as needed, and no further.

    Where the edge dissolves in a shadow of the object's own lightness, its hull has to do.
    """
    wall = (foreign | edges).astype(np.uint8)
    floods = [_reached_from_border(cv2.morphologyEx(wall, cv2.MORPH_CLOSE, _disc(gap)) == 0) for gap in GAPS_PX]
    kept = [int(cv2.morphologyEx((~flood).astype(np.uint8), cv2.MORPH_OPEN, _disc(9)).sum()) for flood in floods]
    hull = _hull(wall)
    if max(int(foreign.sum()), *kept) < LEAK_SHARE * hull.sum():
        return ~hull
    return next(flood for flood, area in zip(floods, kept, strict=True) if area >= 0.7 * max(kept))


def _hull(wall: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The convex hull of the longest piece of wall, where that is long enough to be an object's edge."""
    contours, _ = cv2.findContours(wall, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(wall)
    longest = max(contours, key=len, default=None)
    if longest is not None and len(longest) > max(wall.shape) / 4:
        cv2.fillConvexPoly(filled, cv2.convexHull(longest), (1,))
    return filled > 0


def _reached_from_border(passable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What can be walked to from the picture's border."""
    _, labels = cv2.connectedComponents(passable.astype(np.uint8), connectivity=4)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.asarray(np.isin(labels, rim[rim > 0]))


def _frame_line(outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    line = np.zeros_like(outside)
    line[[0, -1]] = True
    line[:, [0, -1]] = True
    return line & outside


def _watershed(
    small: NDArray[np.uint8], object_seed: NDArray[np.bool_], backdrop_seed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Share out what is neither: the border between the two runs where the colour changes most."""
    markers = np.where(object_seed, 2, np.where(backdrop_seed, 1, 0)).astype(np.int32)
    if not (markers == 2).any():
        return np.zeros(object_seed.shape, np.bool_)
    inside = np.asarray(cv2.watershed(cv2.GaussianBlur(small, (0, 0), 0.8), markers)) == 2
    # The line between the two is marked -1, and so is the picture's rim.
    return np.asarray(cv2.dilate(inside.astype(np.uint8), np.ones((2, 2), np.uint8)), np.bool_)


def _without_holes(
    inside: NDArray[np.bool_], distance: NDArray[np.float32], shadow: NDArray[np.bool_], noise: float
) -> NDArray[np.bool_]:
    """Open what shows the backdrop itself, as a mug's handle does, or its shadow, as between the legs of a chair.

    Not in an object that is itself as pale as the backdrop: there nobody can tell.
    """
    solid = inside & ~shadow & (distance > HOLE_STEP + noise)
    contrast = float(np.median(distance[solid])) if solid.any() else 0.0
    if solid.sum() < 0.4 * inside.sum() or contrast < 5 * HOLE_STEP:
        return inside
    bare = inside & (distance < noise + min(0.2 * contrast, MAX_HOLE_STEP))
    near_outside = cv2.dilate((~inside).astype(np.uint8), _disc(17)) > 0
    near_shadow = cv2.dilate((shadow & ~inside & (distance > 3)).astype(np.uint8), _disc(25)) > 0
    wide = 0.002 * inside.sum()
    holes = _pieces_that(bare, lambda area, near: (area >= wide) | (near > 0), near_outside)
    # Where much of the object looks like a shadow, it is grey rather than full of holes.
    if (inside & shadow).sum() < 0.15 * inside.sum():
        holes |= _pieces_that(inside & shadow, lambda area, near: (area >= wide) & (near >= 0.1 * area), near_shadow)
    return inside & ~np.asarray(cv2.dilate(holes.astype(np.uint8), _disc(3)), np.bool_)


def _pieces_that(
    places: NDArray[np.bool_],
    qualify: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]],
    near: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """The connected pieces of `places` that qualify by their area and by how much of it lies `near`, in pixels."""
    opened = cv2.morphologyEx(places.astype(np.uint8), cv2.MORPH_OPEN, _disc(3))
    _, labels = cv2.connectedComponents(opened, connectivity=4)
    chosen = qualify(np.bincount(labels.ravel()), np.bincount(labels[near], minlength=int(labels.max()) + 1))
    chosen[0] = False
    return np.asarray(chosen[labels])


def _from_clutter(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    view = shrink(small, CLUTTER_PX)
    ring = border(view.shape[0], view.shape[1])
    mask = np.where(ring, cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    backdrop_model, object_model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(view[..., ::-1])
    cv2.grabCut(bgr, mask, (0, 0, 1, 1), backdrop_model, object_model, 3, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    opened = cv2.morphologyEx(inside, cv2.MORPH_OPEN, _disc(3))
    closed = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(5)), np.float32)
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


def _disc(width_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px)), np.uint8)
