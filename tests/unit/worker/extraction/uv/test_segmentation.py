"""Clustering of faces into charts."""

import numpy as np
import pytest

from bench.geometry.surfaces import grid_faces, noisy
from worker.extraction.uv.patches import ChartLimits, Patches
from worker.extraction.uv.segmentation import cluster


def test_flat_grid_is_one_chart() -> None:
    """No limit applies."""
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    patches = Patches.from_faces(np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3), grid_faces(9, 9, wrap=False))
    assert cluster(patches, ChartLimits(0.5)).max() == 0
    assert (patches.areas.sum(), len(patches.pairs)) == (pytest.approx(64), 2 * 8 * 7 + 64)


@pytest.mark.parametrize("cone_rad", [0.3, 0.8])
def test_no_face_leaves_the_cone_of_its_chart(cone_rad: float) -> None:
    """Around its chart's mean normal; and no chart exceeds the area."""
    surface = noisy(60, 20, 32)
    patches = Patches.from_faces(surface.vertices, surface.faces)
    max_area = patches.areas.sum() / 10
    chart = cluster(patches, ChartLimits(cone_rad, max_area))
    whole = patches.merge(chart)
    axis = whole.normals / np.linalg.norm(whole.normals, axis=1, keepdims=True)
    normal = patches.normals / np.linalg.norm(patches.normals, axis=1, keepdims=True)
    assert np.einsum("fd,fd->f", normal, axis[chart]).min() >= np.cos(cone_rad) - 1e-6
    assert whole.areas.max() <= max_area


def test_a_later_limit_applies_to_small_charts_only() -> None:
    """A narrow step between two flat strips joins the first strip, and the two stay separate."""
    across = np.array([0.0, 1.0, 1.0, 2.0])
    x, z = (np.repeat(each, 2) for each in (across, np.array([0.0, 0.0, 0.1, 0.1])))
    vertices = np.stack([x, np.tile([0.0, 1.0], 4), z], axis=1)
    patches = Patches.from_faces(vertices, grid_faces(4, 2, wrap=False))
    narrow, wide = ChartLimits(0.5), ChartLimits(1.5, small_area=0.3)
    assert [int(cluster(patches, *limits).max()) + 1 for limits in ((narrow,), (narrow, wide))] == [3, 2]
