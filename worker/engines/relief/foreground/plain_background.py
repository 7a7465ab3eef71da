"""An object before a plain backdrop is cut out along its edge, without its shadow and with its holes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.foreground.background_holes import find_holes, remove_cast_shadow
from worker.engines.relief.foreground.background_model import BackgroundModel, border_mask
from worker.engines.relief.foreground.morphology import (
    close_region,
    convex_hull,
    flood_from_border,
    grow,
    open_region,
    select_components,
    shrink,
)

CHROMA_STEP = 5.0  # CIELAB units: shadows are darker than the backdrop, but hardly of another colour
DARKER_THAN_SHADOW = 40.0  # CIELAB L below the backdrop that no soft shadow reaches
STEEP = 2.5  # CIELAB units a pixel: soft shadows change more slowly than the edges of things
SHARP = 1.2  # CIELAB units from the mean around: soft shadows bend more slowly too
GAPS_PX = (5, 13, 27)  # in an object's edge, bridged: the smallest that keeps the background from flowing in
LEAK_SHARE = 0.15  # of the edge's hull: where less is kept, the background has flowed in


@dataclass(frozen=True, slots=True)
class PixelCues:
    """How each pixel differs from the backdrop; [rows, columns] each.

    lightness: CIELAB L above the backdrop's. distance: CIELAB units from it. foreign: what no shadow on the backdrop
    can look like. edges: where the colour changes faster than in a soft shadow.
    """

    lightness: NDArray[np.float32]
    distance: NDArray[np.float32]
    foreign: NDArray[np.bool_]
    edges: NDArray[np.bool_]

    @property
    def dim(self) -> NDArray[np.bool_]:
        """Darker than the backdrop and of its hue, as its shadows are, and as grey things are."""
        return ~self.foreign & (self.lightness < 0)


def segment_on_plain(
    small: NDArray[np.uint8], lab: NDArray[np.float32], backdrop: BackgroundModel
) -> NDArray[np.bool_]:
    """The object's pixels, bool [rows, columns].

    small: uint8 [rows, columns, 3], about 640 pixels long: the widths here are meant for that. lab: the same in CIELAB.

    Markers grow by watershed until they meet where the colour changes most: from what lies deep inside the object's
    edge, and from what looks like the bare backdrop. A second round opens the holes.
    """
    look = _look(lab, backdrop)
    outside = _outside(look)
    # The wall is as thick as the filters' window: the edge runs in its middle.
    deep, certain = shrink(~outside, 13), shrink(look.foreign, 3)
    bare = flood_from_border(outside & (look.distance < 3 * backdrop.noise + 1))
    backdrop_seed = shrink(bare, 3) | _frame_line(outside)
    inside = _watershed(small, deep | certain, backdrop_seed)
    inside = remove_cast_shadow(inside, look.dim, look.foreign, look.lightness)
    open_ = find_holes(inside, look.distance, look.dim & ~look.edges, backdrop)
    if not open_.any():
        return inside
    return inside & _watershed(small, inside & ((deep & ~grow(open_, 13)) | certain), backdrop_seed | open_)


def _look(lab: NDArray[np.float32], backdrop: BackgroundModel) -> PixelCues:
    lightness = lab[..., 0] - backdrop.lab[..., 0]
    hue_shift = _hue_shift(lab, backdrop)
    noise = backdrop.noise
    foreign = (hue_shift > max(CHROMA_STEP, 4 * noise)) | (lightness > 4 * noise + 2)
    distance = np.asarray(np.linalg.norm(lab - backdrop.lab, axis=-1), np.float32)
    return PixelCues(lightness, distance, foreign | (lightness < -DARKER_THAN_SHADOW), _edges(lab))


def _hue_shift(lab: NDArray[np.float32], backdrop: BackgroundModel) -> NDArray[np.float32]:
    """How far the colour lies from the backdrop's under less light: there CIELAB's a and b shrink along with L + 16."""
    dimming = np.minimum((lab[..., :1] + 16) / (backdrop.lab[..., :1] + 16), 1)
    return np.asarray(np.linalg.norm(lab[..., 1:] - backdrop.lab[..., 1:] * dimming, axis=-1), np.float32)


def _edges(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the colour changes faster than a soft shadow does, and more than the border's noise."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.8)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    steep = np.sqrt((across**2 + down**2).sum(axis=-1))
    sharp = np.linalg.norm(smooth - cv2.GaussianBlur(lab, (0, 0), 2.2), axis=-1)
    ring = border_mask(*lab.shape[:2])
    steep_limit, sharp_limit = (2.5 * float(np.percentile(measure[ring], 80)) for measure in (steep, sharp))
    return np.asarray((steep > max(STEEP, steep_limit)) | (sharp > max(SHARP, sharp_limit)))


def _outside(look: PixelCues) -> NDArray[np.bool_]:
    """What the background floods: the gaps in the object's edge are bridged as far as needed, and no further.

    Where the edge dissolves in a shadow of the object's own lightness, its hull has to do.
    """
    wall = look.foreign | look.edges
    floods = [flood_from_border(~close_region(wall, gap)) for gap in GAPS_PX]
    kept = [int(open_region(~flood, 9).sum()) for flood in floods]
    around = _hull(wall)
    if max(int(look.foreign.sum()), *kept) < LEAK_SHARE * around.sum():
        return ~around
    return next(flood for flood, area in zip(floods, kept, strict=True) if area >= 0.7 * max(kept))


def _hull(wall: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of the largest piece of wall, where that is large enough to be an object's edge."""
    enough = max(wall.shape) / 4
    nowhere = np.zeros_like(wall)
    return convex_hull(
        select_components(wall, nowhere, lambda area, _: (area == area[1:].max(initial=0)) & (area > enough))
    )


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
    if not object_seed.any():
        return object_seed
    inside = np.asarray(cv2.watershed(cv2.GaussianBlur(small, (0, 0), 0.8), markers)) == 2
    # The line between the two is marked -1, and so is the picture's rim.
    return np.asarray(cv2.dilate(inside.astype(np.uint8), np.ones((2, 2), np.uint8)), np.bool_)
