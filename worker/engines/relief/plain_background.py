"""Segment an object in front of a plain background: along its edge, without its shadow, with its holes.

1. `fit_background`: a quadratic surface in CIELAB through the image's border, robust against the object reaching in.
2. `_find_cues`: how each pixel differs from that surface, and where the colour changes too fast for a soft shadow.
3. `segment_on_plain`: markers inside the object's edge and on the bare background grow by watershed (Meyer 1992) until
   they meet where the colour changes most; then cast shadows are removed and holes opened.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.raster_ops import (
    close_region,
    convex_hull,
    flood_from_border,
    grow,
    open_region,
    select_components,
    shrink,
)

BORDER_SHARE = 0.03  # of the longer side: the width of the border that represents the background
FIT_ROUNDS = 6  # reweighting rounds: the object may reach into the border
OUTLIER = 6.0  # CIELAB units from which a border pixel is not background
PLAIN_SHARE = 0.65  # of the border that one smooth surface must explain
MIN_NOISE = 0.5  # CIELAB units: what compression alone adds
MAX_NOISE = 5.0  # CIELAB units: the scatter that a plain background may have

CHROMA_STEP = 5.0  # CIELAB units: shadows are darker than the background, but hardly of another colour
DARKER_THAN_SHADOW = 40.0  # CIELAB L below the background that no soft shadow reaches
STEEP = 2.5  # CIELAB units per pixel: soft shadows change more slowly than the edges of objects
SHARP = 1.2  # CIELAB units from the local mean: soft shadows bend more slowly too
GAPS_PX = (5, 13, 27)  # gaps in an object's edge to bridge: the smallest that keeps the background from leaking in
LEAK_SHARE = 0.15  # of the edge's hull: where less is kept, the background has leaked in

HOLE_STEP, TINTED_HOLE_STEP = 1.5, 7.0  # CIELAB units from the background within which a hole shows it
TINT = 8.0  # CIELAB units from grey, from which a background counts as coloured
MAX_CAST_SHADOW = 28.0  # CIELAB L below the background: the darkest hard shadow that is not taken for an object
HOLE_SHARE = 0.002  # of the object: a smaller patch of background colour, away from the edge, is a highlight


@dataclass(frozen=True, slots=True)
class BackgroundModel:
    """A smooth background.

    lab: float32 [rows, columns, 3], CIELAB (L 0-100). noise: the border's scatter around it, CIELAB units.
    explained_share: the share of the border that it explains.
    """

    lab: NDArray[np.float32]
    noise: float
    explained_share: float

    @property
    def is_plain(self) -> bool:
        """Whether the model explains the border."""
        return self.explained_share >= PLAIN_SHARE and self.noise <= MAX_NOISE


@dataclass(frozen=True, slots=True)
class PixelCues:
    """How each pixel differs from the background; all [rows, columns].

    lightness: CIELAB L above the background's. distance: CIELAB units from it. foreign: what no shadow on the
    background can look like. edges: where the colour changes faster than in a soft shadow.
    """

    lightness: NDArray[np.float32]
    distance: NDArray[np.float32]
    foreign: NDArray[np.bool_]
    edges: NDArray[np.bool_]

    @property
    def dim(self) -> NDArray[np.bool_]:
        """Darker than the background and of its hue, like its shadows and like grey objects."""
        return ~self.foreign & (self.lightness < 0)


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert sRGB bytes to CIELAB, float32, L 0-100."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def border_mask(rows: int, columns: int) -> NDArray[np.bool_]:
    """Return the pixels that represent the background: bool [rows, columns]."""
    width = max(3, round(BORDER_SHARE * max(rows, columns)))
    inside = np.zeros((rows, columns), np.bool_)
    inside[width:-width, width:-width] = True
    return ~inside


def fit_background(lab: NDArray[np.float32]) -> BackgroundModel:
    """Fit a quadratic in x and y to the border by iteratively reweighted least squares (Tukey's biweight)."""
    rows, columns = lab.shape[:2]
    border = border_mask(rows, columns)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    inputs, targets = terms[border], lab[border].astype(np.float64)
    residuals = np.linalg.norm(targets - np.median(targets, axis=0), axis=1)
    solution = np.zeros((terms.shape[-1], 3))
    for _ in range(FIT_ROUNDS):
        cutoff = max(OUTLIER, 4 * float(np.median(residuals)))
        weight = np.clip(1 - (residuals / cutoff) ** 2, 0, 1)[:, None]
        # Ridge regularization: a border that the object mostly covers must not bend the surface.
        normal = (inputs * weight**2).T @ inputs + 1e-3 * len(inputs) * np.diag([0, 0.1, 0.1, 1, 1, 1])
        solution = np.linalg.solve(normal, (inputs * weight**2).T @ targets)
        residuals = np.linalg.norm(targets - inputs @ solution, axis=1)
    inliers = residuals < OUTLIER
    noise = float(np.sqrt((residuals[inliers] ** 2).mean())) if inliers.any() else np.inf
    return BackgroundModel((terms @ solution).astype(np.float32), max(noise, MIN_NOISE), float(inliers.mean()))


def segment_on_plain(
    small: NDArray[np.uint8], lab: NDArray[np.float32], background: BackgroundModel
) -> NDArray[np.bool_]:
    """Return the object's pixels, bool [rows, columns].

    Args:
        small: uint8 [rows, columns, 3], about 640 pixels long: the widths here are chosen for that size.
        lab: the same image in CIELAB.
    """
    cues = _find_cues(lab, background)
    outside = _find_outside(cues)
    # The edge is as thick as the filters' window; the object's outline runs in its middle.
    deep, certain = shrink(~outside, 13), shrink(cues.foreign, 3)
    bare = flood_from_border(outside & (cues.distance < 3 * background.noise + 1))
    background_seed = shrink(bare, 3) | _image_frame(outside)
    inside = _run_watershed(small, deep | certain, background_seed)
    inside = remove_cast_shadow(inside, cues.dim, cues.foreign, cues.lightness)
    holes = find_holes(inside, cues.distance, cues.dim & ~cues.edges, background)
    if not holes.any():
        return inside
    # A second round, with the holes as markers, opens them along their edges.
    return inside & _run_watershed(small, inside & ((deep & ~grow(holes, 13)) | certain), background_seed | holes)


def _find_cues(lab: NDArray[np.float32], background: BackgroundModel) -> PixelCues:
    lightness = lab[..., 0] - background.lab[..., 0]
    hue_shift = _hue_shift(lab, background)
    noise = background.noise
    foreign = (hue_shift > max(CHROMA_STEP, 4 * noise)) | (lightness > 4 * noise + 2)
    distance = np.asarray(np.linalg.norm(lab - background.lab, axis=-1), np.float32)
    return PixelCues(lightness, distance, foreign | (lightness < -DARKER_THAN_SHADOW), _find_edges(lab))


def _hue_shift(lab: NDArray[np.float32], background: BackgroundModel) -> NDArray[np.float32]:
    """Return the colour's distance from that of the shaded background: in shade, a and b shrink along with L + 16."""
    dimming = np.minimum((lab[..., :1] + 16) / (background.lab[..., :1] + 16), 1)
    return np.asarray(np.linalg.norm(lab[..., 1:] - background.lab[..., 1:] * dimming, axis=-1), np.float32)


def _find_edges(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the colour changes faster than a soft shadow does, and more than the border's noise."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.8)
    across, down = (cv2.Scharr(smooth, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    steep = np.sqrt((across**2 + down**2).sum(axis=-1))
    sharp = np.linalg.norm(smooth - cv2.GaussianBlur(lab, (0, 0), 2.2), axis=-1)
    border = border_mask(*lab.shape[:2])
    steep_limit, sharp_limit = (2.5 * float(np.percentile(measure[border], 80)) for measure in (steep, sharp))
    return np.asarray((steep > max(STEEP, steep_limit)) | (sharp > max(SHARP, sharp_limit)))


def _find_outside(cues: PixelCues) -> NDArray[np.bool_]:
    """Flood the background from the border; gaps in the object's edge are bridged as far as necessary, and no further.

    Where the edge disappears in a shadow of the object's own lightness, the edge's convex hull is used.
    """
    wall = cues.foreign | cues.edges
    floods = [flood_from_border(~close_region(wall, gap)) for gap in GAPS_PX]
    kept = [int(open_region(~flood, 9).sum()) for flood in floods]
    hull = _hull_of_largest(wall)
    if max(int(cues.foreign.sum()), *kept) < LEAK_SHARE * hull.sum():
        return ~hull
    return next(flood for flood, area in zip(floods, kept, strict=True) if area >= 0.7 * max(kept))


def _hull_of_largest(wall: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the convex hull of the largest component, if that is large enough to be an object's edge."""
    min_area = max(wall.shape) / 4
    nowhere = np.zeros_like(wall)
    largest = select_components(wall, nowhere, lambda area, _: (area == area[1:].max(initial=0)) & (area > min_area))
    return convex_hull(largest)


def _image_frame(outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the outermost pixels of the image that are outside of the object."""
    frame = np.zeros_like(outside)
    frame[[0, -1]] = True
    frame[:, [0, -1]] = True
    return frame & outside


def _run_watershed(
    small: NDArray[np.uint8], object_seed: NDArray[np.bool_], background_seed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Grow both seeds until they meet; their border runs where the colour changes most."""
    markers = np.where(object_seed, 2, np.where(background_seed, 1, 0)).astype(np.int32)
    if not object_seed.any():
        return object_seed
    inside = np.asarray(cv2.watershed(cv2.GaussianBlur(small, (0, 0), 0.8), markers)) == 2
    # OpenCV marks the line between the two with -1, and the image's outermost pixels too.
    return np.asarray(cv2.dilate(inside.astype(np.uint8), np.ones((2, 2), np.uint8)), np.bool_)


def remove_cast_shadow(
    inside: NDArray[np.bool_], dim: NDArray[np.bool_], foreign: NDArray[np.bool_], lightness: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Remove a hard shadow: wide, dim, at the foot of the object, and beyond the hull of the object's own colours.

    A grey object is returned unchanged: its shadow has the same colours.

    Args:
        dim: darker than the background, of its hue. foreign, lightness: see `PixelCues`.
    """
    coloured = inside & foreign
    if not coloured.any() or coloured.sum() < 0.5 * inside.sum():
        return inside
    middle = float(np.average(np.arange(len(coloured)), weights=coloured.sum(axis=1)))
    foot = (np.arange(len(coloured)) > middle)[:, None]
    wide = open_region(inside & dim & (lightness > -MAX_CAST_SHADOW) & foot, 9)
    shadow = select_components(wide, ~convex_hull(coloured), lambda area, beyond: beyond > 0.5 * area)
    # Up to the shadow's own edge, but not into what has a colour.
    return inside & ~(grow(shadow, 13) & ~grow(coloured, 3))


def find_holes(
    inside: NDArray[np.bool_], distance: NDArray[np.float32], shadow: NDArray[np.bool_], background: BackgroundModel
) -> NDArray[np.bool_]:
    """Find where the background is visible through the object (a mug's handle), or its shadow (between chair legs).

    None in an object as pale as the background: there holes look like its surface.

    Args:
        distance: CIELAB units from the background. shadow: what looks like a soft shadow.
    """
    solid = inside & ~shadow & (distance > HOLE_STEP + background.noise)
    contrast = float(np.median(distance[solid])) if solid.any() else 0.0
    if solid.sum() < 0.4 * inside.sum() or contrast < 5 * HOLE_STEP:
        return np.zeros_like(inside)
    # Highlights and white parts look like a pale background; only a coloured one allows a large tolerance.
    tint = float(np.linalg.norm(background.lab[..., 1:], axis=-1).mean())
    tolerance = min(0.2 * contrast, TINTED_HOLE_STEP) if tint > TINT else HOLE_STEP
    bare = inside & (distance < background.noise + tolerance)
    large = HOLE_SHARE * inside.sum()
    holes = select_components(open_region(bare, 3), grow(~inside, 17), lambda area, near: (area >= large) | (near > 0))
    # Where much of the object looks like a shadow, the object is grey rather than full of holes.
    dark = inside & shadow
    if dark.sum() < 0.15 * inside.sum():
        shadow_nearby = grow(shadow & ~inside & (distance > 3), 25)
        holes |= select_components(
            open_region(dark, 3), shadow_nearby, lambda area, near: (area >= large) & (near >= 0.1 * area)
        )
    return holes
