"""What the surface is made of, as far as one picture tells: colours without their background, metal, roughness."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.geometry.signed_distance import nearest_cell
from worker.engines.relief.resampling import blur_within

METAL_LIMIT = 0.75  # a guess from one picture should not turn anything into a mirror
OPAQUE = 0.9  # alpha from here on is taken as opaque: lossy compression leaves 0.98 where 1 was meant
GLASS_SHARE = 0.02  # of the object's inside: less than this much translucency is noise


def extend_inside_colours(
    values: NDArray[np.float32], distance: NDArray[np.float32], edge_cells: float
) -> NDArray[np.float32]:
    """Replace what lies within `edge_cells` of the outline, or outside, by what lies next to it further inside.

    Edge pixels are mixed with the background; on the sides of the body they would show as a halo. Where a part is
    too thin to have an inside, its middle counts.
    values: float32 [side, side, channels]. distance: float32 [side, side], in cells.
    """
    reach = int(2 * edge_cells) | 1
    middle = cv2.dilate(distance, np.ones((reach, reach), np.uint8))
    core = (distance > 0) & (distance >= np.minimum(edge_cells, 0.6 * middle))
    return np.where(core[..., None], values, values[nearest_cell(core)])


def guess_metallic_roughness(colour: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Guess float32 [side, side, 2]: metallic and roughness in [0, 1].

    Metal mirrors its surroundings: strong contrast within a small area, in greys or in the yellows and browns of
    gold, brass and copper. Gloss shows as small highlights.
    """
    side = colour.shape[0]
    value, saturation, hue_degrees = _value_saturation_hue(colour)
    mean = blur_within(value[..., None], inside, side / 50)[..., 0]
    spread = blur_within(((value - mean) ** 2)[..., None], inside, side / 50)[..., 0] ** 0.5
    highlight = _ramp(value - mean, 0.12, 0.4)
    warm = _ramp(saturation, 0.2, 0.4) * (1 - _ramp(np.abs(hue_degrees - 35), 15, 30))
    grey = 1 - _ramp(saturation, 0.08, 0.2)
    metal = METAL_LIMIT * _ramp(spread, 0.08, 0.2) * np.maximum(warm, 0.8 * grey) * _ramp(value, 0.1, 0.3)
    metal = blur_within(metal[..., None], inside, side / 128)[..., 0]
    gloss = blur_within(highlight[..., None], inside, side / 40)[..., 0]
    roughness = np.clip(0.8 - 1.2 * gloss - 0.35 * metal, 0.25, 0.9)
    return np.stack([metal, roughness], axis=-1).astype(np.float32)


def _value_saturation_hue(
    colour: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    hsv = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2HSV), np.float32)
    return hsv[..., 2], hsv[..., 1], hsv[..., 0]


def _ramp(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """0 at `low` and below, 1 at `high` and above, straight between."""
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), np.float32)


def material_alpha(alpha: NDArray[np.float32], distance: NDArray[np.float32], edge_cells: float) -> NDArray[np.float32]:
    """The material's alpha, float32 [side, side, 1]: 1, unless a good part of the object's inside is translucent.

    alpha: the picture's, float32 [side, side]; at the outline it means coverage, not glass.
    """
    inner = distance > edge_cells
    translucent = inner & (alpha < OPAQUE)
    if translucent.sum() < GLASS_SHARE * max(int(inner.sum()), 1):
        return np.ones((*alpha.shape, 1), np.float32)
    clear = np.where(alpha < OPAQUE, alpha, 1).astype(np.float32)[..., None]
    return extend_inside_colours(clear, distance, edge_cells)
