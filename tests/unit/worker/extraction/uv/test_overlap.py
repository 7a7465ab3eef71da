"""Detection of overlaps, and moving charts off shared texels."""

import numpy as np

from tests.unit.worker.extraction.uv.conftest import ramp, squares
from worker.extraction.uv.overlap import find_self_overlaps, find_shared_texels, resolve_shared_texels


def test_a_chart_that_overlaps_itself_is_found() -> None:
    """The ramp overlaps after one turn, not after half a turn."""
    for turns, twice in ((0.5, False), (1.5, True)):
        vertices, faces = ramp(turns)
        flat = vertices[faces][..., [0, 2]].astype(np.float32)
        assert find_self_overlaps(flat, np.zeros(len(faces), np.int64), 512, "cpu").tolist() == [twice]


def test_checked_charts_are_skipped() -> None:
    """The first chart is not examined, although it overlaps."""
    vertices, faces = ramp(1.5)
    corners = np.concatenate([vertices[:, ::2][faces]] * 2).astype(np.float32)
    chart = np.repeat([0, 1], len(faces))
    assert find_self_overlaps(corners, chart, 64, "cpu").tolist() == [True, True]
    assert find_self_overlaps(corners, chart, 64, "cpu", checked=1).tolist() == [False, True]


def test_charts_that_share_a_texel_are_found() -> None:
    """Both charts whose triangles cover the same texel's centre, and no other."""
    low = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]], np.float32)
    corners = np.stack([low, low + 0.1, low + 0.5])
    assert find_shared_texels(corners, np.array([0, 1, 2]), 64, "cpu").tolist() == [True, True, False]


def test_charts_that_share_a_sliver_are_moved() -> None:
    """Two squares of a chart share a tenth of a texel; two that share four texels cannot be helped by moving."""
    points, faces, _ = squares(4, 20.0)
    points[:, 0] += np.repeat([0.0, 19.45, 0.0, 16.0], 4).astype(np.float32)
    points[:, 1] += np.repeat([0.0, 0.0, 32.0, 32.0], 4).astype(np.float32)
    chart = np.repeat([0, 1], 4)
    uv = points / np.float32(64)
    moved, twice = resolve_shared_texels(uv, faces, chart, 64, "cpu")
    assert find_shared_texels(uv[faces], chart, 64, "cpu").tolist() == [True, True]
    assert twice.tolist() == [False, True]
    assert np.abs(moved - uv).max() * 64 <= 0.4 + 1e-5
    assert np.ptp((moved - uv)[:8], axis=0).max() < 1e-6
