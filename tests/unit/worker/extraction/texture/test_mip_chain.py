"""The normal equations of mip levels, beside the same sums written as products of matrices."""

import numpy as np
import pytest
import warp as wp
from numpy.typing import NDArray

from tests.unit.worker.extraction.conftest import bilinear
from worker.extraction.texture import mip_chain

SIDE = 64
LEVELS = 3
Plane = NDArray[np.float64]


def on_device(plane: Plane) -> wp.array:
    """As Warp's array of float32, on the CPU."""
    return wp.array(plane, dtype=wp.float32, device="cpu")


def halved(plane: Plane) -> Plane:
    """Means of four."""
    side = len(plane) // 2
    return plane.reshape(side, 2, side, 2).mean(axis=(1, 3))


def gradient(values: list[Plane], weights: list[Plane], wanted: list[Plane]) -> Plane:
    """Of half the sum of weighed squares at all levels, by the means of the finest one's texels."""
    total = np.zeros((len(values[-1]) // 2,) * 2)
    for value, weight, sought in reversed(list(zip(values, weights, wanted, strict=True))):
        read = bilinear(len(value), 2)
        own = read.T @ (weight * (read @ value @ read.T - sought)) @ read
        total = own + np.kron(total, np.ones((2, 2))) / 4
    return total


@pytest.mark.parametrize("right_side", [0, 1])
def test_rows_are_the_gradient_of_what_charts_ask_for(right_side: int) -> None:
    """Wherever a part of a texel lies between charts; charts keep away from the texture's border here."""
    rng = np.random.default_rng(5)
    value = rng.random((SIDE, SIDE))
    weight = rng.random((SIDE, SIDE)) * (rng.random((SIDE, SIDE)) < 0.6)
    margin = 2**LEVELS
    weight[:margin], weight[-margin:], weight[:, :margin], weight[:, -margin:] = 0, 0, 0, 0
    gaps, values, weights, wanted = [(weight == 0).astype(float)], [value], [weight], [value]
    for _ in range(LEVELS):
        gaps.append(halved(gaps[-1]))
        values.append(halved(values[-1]))
        weights.append(halved(weights[-1]))
        wanted.append(halved(weights[-2] * wanted[-1]) / np.maximum(weights[-1], 1e-12))
    levels = mip_chain.levels(on_device(value), on_device(weight), [on_device(gap) for gap in gaps[1:]])
    fields = values[1:] if right_side else gaps[1:]
    found = mip_chain.rows(levels, [on_device(field) for field in fields], right_side=right_side).numpy()
    expected = gradient(fields, weights[:-1], [right_side * sought for sought in wanted[:-1]])
    assert np.abs((found - expected)[gaps[1] > 0]).max() < 1e-5


def test_settle_hands_the_finest_levels_values_on() -> None:
    """As means of four, and of sixteen."""
    value = np.random.default_rng(6).random((SIDE, SIDE))
    ones = [on_device(np.ones((SIDE >> level,) * 2)) for level in (1, 2, 3)]
    levels = mip_chain.levels(on_device(np.zeros((SIDE, SIDE))), on_device(np.zeros((SIDE, SIDE))), ones)
    levels[0].value.assign(halved(value).astype(np.float32))
    mip_chain.settle(levels)
    assert np.abs(levels[2].value.numpy() - halved(halved(halved(value)))).max() < 1e-6
