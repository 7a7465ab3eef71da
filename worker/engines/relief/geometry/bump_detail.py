"""Fine depth: what light and dark in the picture say about bumps, and a grain that the seed decides."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.resampling import blur, blur_within, scale

DEPTH = 0.009  # of the grid's side: how far shading moves the surface at most
GRAIN = 0.0003  # of the grid's side: the standard deviation of the grain


def shading_bumps(colour: NDArray[np.float32], distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far shading moves the surface towards the viewer, in cells: float32 [side, side].

    Dark is deep (Langer and Zucker, 1994): under diffuse light, what is darker than its surroundings mostly lies
    deeper. Two sizes of surroundings; nothing moves at the outline.
    """
    side = colour.shape[0]
    inside = distance > 0
    light = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    fine, middle, wide = (blur_within(light, inside, side * width)[..., 0] for width in (0.0025, 0.012, 0.04))
    relief = np.tanh((0.7 * (fine - middle) + 0.4 * (middle - wide)) / 0.2)
    return np.asarray(relief * (DEPTH * side) * np.clip(distance / (0.02 * side), 0, 1), np.float32)


def seeded_noise(side: int, seed: int) -> NDArray[np.float32]:
    """Smooth noise in cells, float32 [side, side], of two sizes: no two seeds give quite the same surface."""
    random = np.random.default_rng(seed)
    total = np.zeros((side, side), np.float32)
    for knots in (8, 40):
        noise = random.standard_normal((knots, knots), np.float32)
        total += scale(noise, side, side)
    return blur(total, side / 256) * (GRAIN * side)
