"""What an object's edge encloses though it is not the object: the backdrop in its holes, and shadows."""

import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.foreground.background_model import BackgroundModel
from worker.engines.relief.foreground.morphology import convex_hull, grow, open_region, select_components

STEP, FAR_STEP = 1.5, 7.0  # CIELAB units: a hole shows the backdrop itself, or nearly
TINT = 8.0  # CIELAB units from grey: the colour of a coloured backdrop
MAX_CAST_SHADOW = 28.0  # CIELAB L below the backdrop that a crisp shadow may have and still be told from an object
HOLE_SHARE = 0.002  # of the object: a smaller piece of backdrop, away from the outline, is a highlight


def remove_cast_shadow(
    inside: NDArray[np.bool_], dim: NDArray[np.bool_], foreign: NDArray[np.bool_], lightness: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Drop a shadow too crisp to be soft: wide, dim, at the foot of an object and beyond the hull of its own colours.

    dim: darker than the backdrop, of its hue. A grey object keeps everything: there nobody can tell.
    """
    own = inside & foreign
    if not own.any() or own.sum() < 0.5 * inside.sum():
        return inside
    middle = float(np.average(np.arange(len(own)), weights=own.sum(axis=1)))
    foot = (np.arange(len(own)) > middle)[:, None]
    wide = open_region(inside & dim & (lightness > -MAX_CAST_SHADOW) & foot, 9)
    cast = select_components(wide, ~convex_hull(own), lambda area, beyond: beyond > 0.5 * area)
    # Up to the shadow's own edge, but not into what has a colour.
    return inside & ~(grow(cast, 13) & ~grow(own, 3))


def find_holes(
    inside: NDArray[np.bool_], distance: NDArray[np.float32], shadow: NDArray[np.bool_], backdrop: BackgroundModel
) -> NDArray[np.bool_]:
    """Where the backdrop shows through, as in a mug's handle, or its shadow, as between the legs of a chair.

    None in an object that is itself as pale as the backdrop: there nobody can tell.
    distance: CIELAB units from the backdrop. shadow: what looks like a soft shadow.
    """
    solid = inside & ~shadow & (distance > STEP + backdrop.noise)
    contrast = float(np.median(distance[solid])) if solid.any() else 0.0
    if solid.sum() < 0.4 * inside.sum() or contrast < 5 * STEP:
        return np.zeros_like(inside)
    # Highlights and white parts look like a pale backdrop; only a coloured one is known from afar.
    tint = float(np.linalg.norm(backdrop.lab[..., 1:], axis=-1).mean())
    bare = inside & (distance < backdrop.noise + (min(0.2 * contrast, FAR_STEP) if tint > TINT else STEP))
    large = HOLE_SHARE * inside.sum()
    found = select_components(open_region(bare, 3), grow(~inside, 17), lambda area, near: (area >= large) | (near > 0))
    # Where much of the object looks like a shadow, it is grey rather than full of holes.
    dark = inside & shadow
    if dark.sum() < 0.15 * inside.sum():
        beside = grow(shadow & ~inside & (distance > 3), 25)
        found |= select_components(
            open_region(dark, 3), beside, lambda area, near: (area >= large) & (near >= 0.1 * area)
        )
    return found
