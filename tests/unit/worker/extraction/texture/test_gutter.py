"""Dilation of charts, and optimization of the gutter for mip levels."""

import numpy as np
import pytest
import warp as wp
from numpy.typing import NDArray

from tests.unit.worker.extraction.conftest import bilinear
from worker.extraction.kernels.texels import LIGHT
from worker.extraction.texture.gutter import dilate, optimize_gutter_for_mips

Texels = NDArray[np.uint8]
SIDE = 256


def charts(seed: int = 3) -> Texels:
    """Tiles of 27 to 32 texels with one random material each, and gutters of 5 or more; uint8 [side, side, 7]."""
    rng = np.random.default_rng(seed)
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    for row in range(0, SIDE, 37):
        for column in range(0, SIDE, 37):
            high, wide = rng.integers(27, 33, 2)
            values[row : row + high, column : column + wide] = [*rng.integers(20, 236, 6), 255]
    return values


def dilated(values: Texels) -> Texels:
    """The texels after dilation."""
    return dilate(wp.array(values, dtype=wp.uint8, device="cpu")).numpy()


def optimized(values: Texels) -> Texels:
    """The texels after dilation and optimization."""
    return optimize_gutter_for_mips(dilate(wp.array(values, dtype=wp.uint8, device="cpu"))).numpy()


def errors(texels: Texels, level: int, table: NDArray[np.float64]) -> float:
    """Mean square error of the charts' texels, read with bilinear filtering from a mip level."""
    size = 2**level
    value = table[texels[..., :3]]
    coarse = value.reshape(SIDE // size, size, SIDE // size, size, 3).mean(axis=(1, 3))
    weights = bilinear(SIDE // size, size)
    shown = np.einsum("yi,ijc,xj->yxc", weights, coarse, weights, optimize=True)  # one axis after the other
    return float(np.square(shown - value)[texels[..., 6] > 0].mean())


def unknown_texels(side: int) -> np.ndarray:
    """No texel is known; uint8 [side, side, 7]."""
    return np.zeros((side, side, 7), np.uint8)


def test_dilate_fills_all_texels_from_one() -> None:
    """Also from one near a corner."""
    values = unknown_texels(64)
    values[5, 60] = [10, 20, 30, 40, 50, 60, 255]
    assert (dilated(values)[..., :6] == [10, 20, 30, 40, 50, 60]).all()


def test_dilate_keeps_known_texels_and_interpolates_between_them() -> None:
    """Between a red of 200 and one of 100."""
    values = unknown_texels(32)
    values[:, :8] = [200, 0, 0, 0, 0, 0, 255]
    values[:, 24:] = [100, 0, 0, 0, 0, 0, 255]
    red = dilated(values)[..., 0]
    assert (set(red[:, :8].ravel()), set(red[:, 24:].ravel())) == ({200}, {100})
    assert (red.min(), red.max()) == (100, 200)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_mip_levels_of_a_chart_keep_its_colour(level: int) -> None:
    """Another chart is 8 texels away; coarse texels over the first contain hardly any of its colour."""
    values = unknown_texels(64)
    values[16:32, 16:32] = [250, 0, 0, 0, 0, 0, 255]
    values[16:32, 40:56] = [0, 250, 0, 0, 0, 0, 255]
    size = 2**level
    coarse = dilated(values)[..., :2].reshape(64 // size, size, 64 // size, size, 2).mean(axis=(1, 3))
    over = coarse[16 // size : 32 // size, 16 // size : 32 // size]
    assert over.reshape(-1, 2).min(axis=0)[0] >= 249


@pytest.mark.parametrize(("level", "factor"), [(1, 0.3), (2, 0.6), (3, 0.95), (4, 0.95)])
@pytest.mark.parametrize("table", [LIGHT, np.arange(256) / 255], ids=["light", "codes"])
def test_optimization_lowers_the_error_of_coarse_levels(level: int, factor: float, table: NDArray[np.float64]) -> None:
    """Whether light or codes are averaged. With a different colour in each chart, the coarsest levels gain least."""
    values = charts()
    assert errors(optimized(values), level, table) < factor * errors(dilated(values), level, table)


def test_optimization_changes_the_gutter_only() -> None:
    """Charts and the last channel keep every code; in the gutter each channel changes."""
    before, after = dilated(charts()), optimized(charts())
    known = before[..., 6] > 0
    assert (after[known] == before[known]).all()
    assert (after[..., 6] == before[..., 6]).all()
    assert (after[~known] != before[~known]).any(axis=0)[:6].all()


def test_a_constant_channel_does_not_change() -> None:
    """The gutter stays opaque, although its colours change."""
    values = charts()
    values[..., 5] = 255
    assert (optimized(values)[..., 5] == 255).all()


def test_a_single_chart_is_surrounded_by_its_colour() -> None:
    """There is no other colour to compensate for."""
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    values[40:60, 40:60] = [200, 30, 90, 10, 120, 255, 255]
    values[50, 50, 0] = 201  # otherwise the channel is constant and skipped
    assert np.abs(optimized(values)[..., :6].astype(int) - [200, 30, 90, 10, 120, 255]).max() <= 1


@pytest.mark.parametrize("side", [2, 4, 8])
def test_small_textures_have_fewer_levels(side: int) -> None:
    """A side of 2 has one."""
    values = np.zeros((side, side, 7), np.uint8)
    values[0, 0] = [10, 20, 30, 40, 50, 60, 255]
    values[-1, -1] = [200, 20, 30, 40, 50, 60, 255]
    after = optimized(values)
    assert after[0, 0].tolist() == [10, 20, 30, 40, 50, 60, 255]
    assert after[-1, -1].tolist() == [200, 20, 30, 40, 50, 60, 255]
    assert (after[..., 1:6] == [20, 30, 40, 50, 60]).all()


def test_a_texture_without_charts_does_not_change() -> None:
    """There is no average to correct."""
    values = np.zeros((SIDE, SIDE, 7), np.uint8)
    assert (optimized(values) == values).all()
