"""The normal equations of mip levels, compared with products of dense matrices."""

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
    """Copy to a Warp array of float32 on the CPU."""
    return wp.array(plane, dtype=wp.float32, device="cpu")


def halved(plane: Plane) -> Plane:
    """Means of four."""
    side = len(plane) // 2
    return plane.reshape(side, 2, side, 2).mean(axis=(1, 3))


def gradient(values: list[Plane], weights: list[Plane], desired: list[Plane]) -> Plane:
    """Gradient of half the weighted sum of squares at all levels, by the texels of the finest level."""
    total = np.zeros((len(values[-1]) // 2,) * 2)
    for value, weight, target in reversed(list(zip(values, weights, desired, strict=True))):
        read = bilinear(len(value), 2)
        own = read.T @ (weight * (read @ value @ read.T - target)) @ read
        total = own + np.kron(total, np.ones((2, 2))) / 4
    return total


@pytest.mark.parametrize("subtract_target", [False, True])
def test_normal_matrix_is_the_gradient_of_the_squared_error(subtract_target: bool) -> None:
    """At all texels that belong to the gutter in part; here no chart is near the texture's border."""
    rng = np.random.default_rng(5)
    value = rng.random((SIDE, SIDE))
    weight = rng.random((SIDE, SIDE)) * (rng.random((SIDE, SIDE)) < 0.6)
    margin = 2**LEVELS
    weight[:margin], weight[-margin:], weight[:, :margin], weight[:, -margin:] = 0, 0, 0, 0
    gaps, values, weights, desired = [(weight == 0).astype(float)], [value], [weight], [value]
    for _ in range(LEVELS):
        gaps.append(halved(gaps[-1]))
        values.append(halved(values[-1]))
        weights.append(halved(weights[-1]))
        desired.append(halved(weights[-2] * desired[-1]) / np.maximum(weights[-1], 1e-12))
    levels = mip_chain.build_levels(on_device(value), on_device(weight), [on_device(gap) for gap in gaps[1:]])
    fields = values[1:] if subtract_target else gaps[1:]
    device_fields = [on_device(field) for field in fields]
    actual = mip_chain.apply_normal_matrix(levels, device_fields, subtract_target=subtract_target).numpy()
    expected = gradient(fields, weights[:-1], [subtract_target * target for target in desired[:-1]])
    assert np.abs((actual - expected)[gaps[1] > 0]).max() < 1e-5


def test_update_coarser_levels_averages_the_finest() -> None:
    """The means of four, and of sixteen."""
    value = np.random.default_rng(6).random((SIDE, SIDE))
    ones = [on_device(np.ones((SIDE >> level,) * 2)) for level in (1, 2, 3)]
    levels = mip_chain.build_levels(on_device(np.zeros((SIDE, SIDE))), on_device(np.zeros((SIDE, SIDE))), ones)
    levels[0].value.assign(halved(value).astype(np.float32))
    mip_chain.update_coarser_levels(levels)
    assert np.abs(levels[2].value.numpy() - halved(halved(halved(value)))).max() < 1e-6
