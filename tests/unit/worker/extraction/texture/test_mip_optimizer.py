"""What lies between charts makes the averages of coarse mip levels right."""

import numpy as np
import pytest
import warp as wp
from numpy.typing import NDArray

from tests.unit.worker.extraction.conftest import bilinear
from worker.extraction.kernels.texels import LIGHT
from worker.extraction.texture.dilation import dilate
from worker.extraction.texture.mip_optimizer import optimize_gutter_for_mips

Texels = NDArray[np.uint8]
SIDE = 256


def charts(seed: int = 3) -> Texels:
    """Tiles of 27 to 32 texels, each of one random material, and gaps of 5 or more; uint8 [side, side, 7]."""
    rng = np.random.default_rng(seed)
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    for row in range(0, SIDE, 37):
        for column in range(0, SIDE, 37):
            high, wide = rng.integers(27, 33, 2)
            values[row : row + high, column : column + wide] = [*rng.integers(20, 236, 6), 255]
    return values


def filled(values: Texels) -> Texels:
    """As `fill` leaves them."""
    return dilate(wp.array(values, dtype=wp.uint8, device="cpu")).numpy()


def balanced(values: Texels) -> Texels:
    """Filled, then balanced."""
    return optimize_gutter_for_mips(dilate(wp.array(values, dtype=wp.uint8, device="cpu"))).numpy()


def errors(texels: Texels, level: int, table: NDArray[np.float64]) -> float:
    """Mean square error of what charts show at a mip level, each of their texels read there as a viewer would."""
    size = 2**level
    value = table[texels[..., :3]]
    coarse = value.reshape(SIDE // size, size, SIDE // size, size, 3).mean(axis=(1, 3))
    between = bilinear(SIDE // size, size)
    shown = np.einsum("yi,ijc,xj->yxc", between, coarse, between)
    return float(np.square(shown - value)[texels[..., 6] > 0].mean())


@pytest.mark.parametrize(("level", "most"), [(1, 0.3), (2, 0.6), (3, 0.95), (4, 0.95)])
@pytest.mark.parametrize("table", [LIGHT, np.arange(256) / 255], ids=["light", "codes"])
def test_coarse_levels_show_more_of_what_the_finest_does(level: int, most: float, table: NDArray[np.float64]) -> None:
    """Whether light or codes are averaged; where each chart is of another colour the coarsest gain least."""
    values = charts()
    assert errors(balanced(values), level, table) < most * errors(filled(values), level, table)


def test_what_charts_cover_stays() -> None:
    """To the last code, and so does what says where they are; between them something changes."""
    before, after = filled(charts()), balanced(charts())
    known = before[..., 6] > 0
    assert (after[known] == before[known]).all()
    assert (after[..., 6] == before[..., 6]).all()
    assert (after[~known] != before[~known]).any(axis=0)[:6].all()


def test_what_is_the_same_everywhere_stays_the_same() -> None:
    """Opaque is not less opaque between charts, though colours change there."""
    values = charts()
    values[..., 5] = 255
    assert (balanced(values)[..., 5] == 255).all()


def test_a_chart_alone_is_surrounded_by_its_colour() -> None:
    """There is nothing to make up for."""
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    values[40:60, 40:60] = [200, 30, 90, 10, 120, 255, 255]
    values[50, 50, 0] = 201  # else the channel would be left out
    assert np.abs(balanced(values)[..., :6].astype(int) - [200, 30, 90, 10, 120, 255]).max() <= 1


@pytest.mark.parametrize("side", [2, 4, 8])
def test_small_textures(side: int) -> None:
    """Have fewer levels than LEVELS."""
    values = np.zeros((side, side, 7), np.uint8)
    values[0, 0] = [10, 20, 30, 40, 50, 60, 255]
    values[-1, -1] = [200, 20, 30, 40, 50, 60, 255]
    after = balanced(values)
    assert after[0, 0].tolist() == [10, 20, 30, 40, 50, 60, 255]
    assert after[-1, -1].tolist() == [200, 20, 30, 40, 50, 60, 255]
    assert (after[..., 1:6] == [20, 30, 40, 50, 60]).all()


def test_nothing_known_is_left_alone() -> None:
    """No chart, no average to make right."""
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    assert (balanced(values) == values).all()
