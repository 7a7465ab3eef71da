"""The material's alpha."""

import numpy as np
import pytest

from worker.engines.relief.material import material_alpha

SIDE = 256


@pytest.mark.parametrize(
    ("translucent", "lowest"),
    [
        pytest.param(np.s_[:, ::16], 1.0, id="thin lines in 6 % of the inside"),
        pytest.param(np.s_[64:104, 64:128], 0.4, id="a pane of 4 % of the inside"),
    ],
)
def test_only_wide_translucent_areas_are_glass(translucent: tuple[slice, slice], lowest: float) -> None:
    """Thin translucent lines are remains of edges, which are coverage; a pane is glass."""
    alpha = np.ones((SIDE, SIDE), np.float32)
    alpha[translucent] = 0.4
    result = material_alpha(alpha, np.full((SIDE, SIDE), 50, np.float32), 2.0)
    assert result.min() == pytest.approx(lowest)
