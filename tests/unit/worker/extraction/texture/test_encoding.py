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
