"""Depth maps packed into a state and back."""

import numpy as np

from worker.engines.relief.depth_maps import DepthMaps


def test_packed_maps_are_restored() -> None:
    """Thickness to a hundredth of a cell, attributes to a byte, at the same position on the grid."""
    random = np.random.default_rng(4)
    front = np.full((128, 128), -1, np.float32)
    front[30:60, 50:100] = random.uniform(0.1, 60, (30, 50))
    attributes = random.uniform(0, 1, (128, 128, 6)).astype(np.float32)
    body = DepthMaps.unpack(DepthMaps(front, front / 2, attributes).pack())
    np.testing.assert_allclose(body.front, front, atol=0.01)
    np.testing.assert_allclose(body.back[30:60, 50:100], front[30:60, 50:100] / 2, atol=0.01)
    np.testing.assert_allclose(body.attributes[30:60, 50:100], attributes[30:60, 50:100], atol=0.002)


def test_packing_moves_no_cell_across_the_outline() -> None:
    """A tiny thickness stays inside, and a cell just outside stays outside: front and back must agree."""
    front = np.full((32, 32), -1e-6, np.float32)
    front[10:20, 10:20] = 1e-6
    body = DepthMaps.unpack(DepthMaps(front, front, np.zeros((32, 32, 6), np.float32)).pack())
    np.testing.assert_array_equal(front > 0, body.front > 0)
    np.testing.assert_array_equal(front > 0, body.back > 0)


def test_packed_maps_are_cropped() -> None:
    """Only the part of the grid that the body covers is stored."""
    front = np.full((256, 256), -1, np.float32)
    front[100:110, 50:80] = 3
    assert (16, 36) == DepthMaps(front, front, np.zeros((256, 256, 6), np.float32)).pack()["front"].shape
