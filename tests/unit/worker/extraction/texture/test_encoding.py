"""The choice of the alpha mode."""

import numpy as np
import pytest

from worker.extraction.texture import encoding


@pytest.mark.parametrize(
    ("alphas", "mode"),
    [([255], "OPAQUE"), ([255, 251], "OPAQUE"), ([255, 0], "MASK"), ([255, 128], "BLEND"), ([0], "MASK")],
)
def test_alpha_mode_needs_texels_that_charts_cover(alphas: list[int], mode: str) -> None:
    """The gutter has no influence."""
    values = np.zeros((8, 8, 6), np.uint8)
    values[:4, :, 5] = np.resize(alphas, (4, 8))
    baked = np.zeros((8, 8), dtype=bool)
    baked[:4] = True
    assert encoding.alpha_mode(values, baked) == mode


@pytest.mark.parametrize(
    "alpha",
    [
        np.where(np.random.default_rng(0).random((64, 64)) < 0.01, 0.95, 1.0),
        1 - np.abs(np.random.default_rng(0).normal(0, 0.01, (64, 64))),
    ],
    ids=["1 % of the texels at 0.95", "every texel at 1 - |N(0, 0.01)|"],
)
def test_noise_in_alpha_is_opaque(alpha: np.ndarray) -> None:
    """A decoder's noise just below full alpha is not glass."""
    values = np.zeros((64, 64, 6), np.uint8)
    values[..., 5] = np.round(alpha * 255)
    assert encoding.alpha_mode(values, np.ones((64, 64), dtype=bool)) == "OPAQUE"
