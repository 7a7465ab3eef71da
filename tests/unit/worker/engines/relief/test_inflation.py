"""Inflation of an outline: round, smooth, thin where the outline is thin."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.engines.relief.inflation import ROUNDNESS, inflate, nearest_cell, signed_distance


def disc(radius_cells: float, side: int, middle: float | None = None) -> NDArray[np.float32]:
    """Coverage of a disc, soft at its edge."""
    axis = np.arange(side, dtype=np.float32) - ((side - 1) / 2 if middle is None else middle)
    radius = np.hypot(axis[:, None], axis)
    return np.clip(radius_cells - radius + 0.5, 0, 1).astype(np.float32)


def test_distance_is_measured_to_a_fraction_of_a_cell() -> None:
    """Around a disc the error is at most half a cell, and a twentieth on average."""
    axis = np.arange(64) - 31.5
    expected = 20.3 - np.hypot(axis[:, None], axis)
    near = np.abs(expected) < 2
    distance = signed_distance(disc(20.3, 64))[near]
    np.testing.assert_allclose(distance, expected[near], atol=0.5)
    assert distance.mean() == pytest.approx(expected[near].mean(), abs=0.05)


def test_nearest_cell_returns_the_nearest_target() -> None:
    """Each cell gets the closer of two targets; a target gets itself."""
    targets = np.zeros((5, 9), np.bool_)
    targets[2, 1] = targets[2, 7] = True
    _, columns = nearest_cell(targets)
    assert [1, 1, 1, 1, 7, 7, 7] == columns[2, [0, 1, 2, 3, 5, 7, 8]].tolist()


def test_disc_becomes_a_spheroid() -> None:
    """Small discs are not screened: half thickness is sqrt(roundness / 4 (r^2 - x^2)) after Poisson's equation."""
    half = np.sqrt(inflate(signed_distance(disc(30, 512)))[255, 255:280])
    expected = np.sqrt(ROUNDNESS / 4 * (30**2 - (np.arange(25) - 0.5) ** 2))
    np.testing.assert_allclose(half, expected, rtol=0.06)


def test_levels_agree_with_the_direct_solution() -> None:
    """Solved level by level, the body is the one that a direct solution at half the size gives."""
    fine = inflate(signed_distance(disc(100, 256)))
    coarse = inflate(signed_distance(disc(50, 128)))
    assert np.sqrt(fine.max()) == pytest.approx(2 * np.sqrt(coarse.max()), rel=0.02)


def test_thick_parts_are_thick_and_thin_parts_thin() -> None:
    """A rod on a disc keeps its own thickness."""
    coverage = disc(60, 256)
    coverage[126:132, 180:250] = 1
    half = np.sqrt(np.maximum(inflate(signed_distance(coverage)), 0))
    assert half.max() > 30
    assert half[129, 225] == pytest.approx(3, abs=1)


def test_large_bodies_stay_within_the_grid() -> None:
    """Even a body that fills the grid bulges by well under half of it."""
    coverage = np.zeros((256, 256), np.float32)
    coverage[4:-4, 4:-4] = 1
    assert np.sqrt(inflate(signed_distance(coverage)).max()) < 0.4 * 256


def test_hole_stays_a_hole() -> None:
    """The middle of a ring is outside."""
    coverage = disc(100, 256) - disc(40, 256)
    squared = inflate(signed_distance(coverage))
    assert (True, True) == (bool((squared[120:136, 120:136] < 0).all()), bool(squared[128, 58] > 0))
