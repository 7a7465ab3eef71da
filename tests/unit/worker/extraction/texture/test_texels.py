"""Sampling the volume, filling gaps, and what alpha means."""

import numpy as np
import pytest
import warp as wp

from worker.extraction.texture import encoding
from worker.extraction.texture.dilation import dilate


def texels(side: int) -> np.ndarray:
    """Nothing known: uint8 [side, side, 7]."""
    return np.zeros((side, side, 7), np.uint8)


def filled(values: np.ndarray) -> np.ndarray:
    """The texels after filling."""
    return dilate(wp.array(values, dtype=wp.uint8, device="cpu")).numpy()


def test_one_texel_fills_all() -> None:
    """Wherever it is."""
    values = texels(64)
    values[5, 60] = [10, 20, 30, 40, 50, 60, 255]
    assert (filled(values)[..., :6] == [10, 20, 30, 40, 50, 60]).all()


def test_known_texels_stay_and_gaps_lie_between_their_neighbours() -> None:
    """Known texels are never changed."""
    values = texels(32)
    values[:, :8] = [200, 0, 0, 0, 0, 0, 255]
    values[:, 24:] = [100, 0, 0, 0, 0, 0, 255]
    red = filled(values)[..., 0]
    assert (set(red[:, :8].ravel()), set(red[:, 24:].ravel())) == ({200}, {100})
    assert (red.min(), red.max()) == (100, 200)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_mip_levels_of_a_chart_keep_its_colour(level: int) -> None:
    """A chart in one colour, another 8 texels away: coarse texels over the first hold hardly any of the second."""
    values = texels(64)
    values[16:32, 16:32] = [250, 0, 0, 0, 0, 0, 255]
    values[16:32, 40:56] = [0, 250, 0, 0, 0, 0, 255]
    size = 2**level
    coarse = filled(values)[..., :2].reshape(64 // size, size, 64 // size, size, 2).mean(axis=(1, 3))
    over = coarse[16 // size : 32 // size, 16 // size : 32 // size]
    assert over.reshape(-1, 2).min(axis=0)[0] >= 249


@pytest.mark.parametrize(
    ("alphas", "mode"),
    [([255], "OPAQUE"), ([255, 251], "OPAQUE"), ([255, 0], "MASK"), ([255, 128], "BLEND"), ([0], "MASK")],
)
def test_alpha_mode_needs_texels_that_charts_cover(alphas: list[int], mode: str) -> None:
    """Texels that no chart covers say nothing."""
    values = np.zeros((8, 8, 6), np.uint8)
    values[:4, :, 5] = np.resize(alphas, (4, 8))
    baked = np.zeros((8, 8), dtype=bool)
    baked[:4] = True
    assert encoding.alpha_mode(values, baked) == mode
