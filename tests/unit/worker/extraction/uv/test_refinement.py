"""Merging of small charts, and smoothing of the boundaries between charts."""

from dataclasses import replace

import numpy as np
import pytest

from bench.geometry.surfaces import grid_faces, knot
from worker.extraction.uv.patches import ChartLimits, Patches
from worker.extraction.uv.refinement import merge_small, smooth_boundaries
from worker.extraction.uv.segmentation import cluster

CONE_RAD = 1.2


def flat_grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A square in the plane, `side` x `side` vertices, one metre between neighbours."""
    x, y = np.meshgrid(np.arange(float(side)), np.arange(float(side)), indexing="ij")
    return np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3), grid_faces(side, side, wrap=False)


def outline_m(patches: Patches, chart: np.ndarray) -> float:
    """Length of the boundaries between charts, metres."""
    i, j = chart[patches.pairs].T
    return float(patches.borders[i != j].sum())


def count_pieces(patches: Patches, chart: np.ndarray) -> int:
    """Number of connected pieces that the charts consist of."""
    name = np.arange(len(chart))
    i, j = patches.pairs[chart[patches.pairs[:, 0]] == chart[patches.pairs[:, 1]]].T
    while True:
        least = name.copy()
        np.minimum.at(least, i, name[j])
        np.minimum.at(least, j, name[i])
        if np.array_equal(least, name):
            return len(np.unique(name))
        name = least


def test_merge_small_joins_charts_within_cone_and_areas() -> None:
    """Two halves of a bowl become one chart if its rim may lean so far, and if the areas allow it."""
    x, y = np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 15), indexing="ij")
    vertices, faces = np.stack([x, y, (x**2 + y**2) / 2], axis=-1).reshape(-1, 3), grid_faces(15, 15, wrap=False)
    patches = Patches.from_faces(vertices, faces)
    halves = (vertices[faces].mean(axis=1)[:, 0] > 0).astype(np.int64)
    steepest = float(np.arccos((patches.normals[:, 2] / patches.areas).min()))
    limit = ChartLimits(steepest + 0.02)
    assert set(merge_small(patches, halves, limit)) == {0}
    assert set(merge_small(patches, halves, ChartLimits(steepest - 0.02))) == {0, 1}
    assert set(merge_small(patches, halves, replace(limit, small_area=1.0))) == {0, 1}
    assert set(merge_small(patches, halves, replace(limit, max_area=3.0))) == {0, 1}


def test_smooth_boundaries_straightens_a_ragged_boundary() -> None:
    """Two halves of a flat grid, with teeth one face deep between them."""
    vertices, faces = flat_grid(41)
    patches = Patches.from_faces(vertices, faces)
    middle = vertices[faces].mean(axis=1)[:, 0]
    chart = (middle + np.random.default_rng(5).uniform(-0.5, 0.5, len(faces)) > 20).astype(np.int64)
    smooth = smooth_boundaries(patches, chart, CONE_RAD, "cpu")
    assert outline_m(patches, smooth) < 0.75 * outline_m(patches, chart)
    assert outline_m(patches, smooth) < 50
    assert abs(np.bincount(smooth)[0] - np.bincount(chart)[0]) < 40


def test_smooth_boundaries_keeps_charts_connected_and_flat() -> None:
    """Boundaries are shorter, each chart is one piece, and no face leaves the cone."""
    surface = knot(200, 60, 64)
    patches = Patches.from_faces(surface.vertices, surface.faces)
    chart = cluster(patches, ChartLimits(CONE_RAD))
    smooth = smooth_boundaries(patches, chart, CONE_RAD, "cpu")
    assert outline_m(patches, smooth) < outline_m(patches, chart) - 0.1
    assert count_pieces(patches, smooth) == smooth.max() + 1
    axis = patches.merge(smooth).normals[smooth]
    cosine = np.einsum("nd,nd->n", axis, patches.normals)
    cosine /= np.linalg.norm(axis, axis=1) * np.linalg.norm(patches.normals, axis=1)
    assert np.degrees(np.arccos(cosine)).max() < np.degrees(CONE_RAD) + 3  # the axes change a little with the faces


@pytest.mark.parametrize(
    ("normal", "charts"), [([0.0, 0.0, 0.5], 1), ([0.5, 0.0, 0.0], 2)], ids=["flat", "perpendicular"]
)
def test_smooth_boundaries_keeps_faces_outside_the_cone(normal: list[float], charts: int) -> None:
    """A face that another chart surrounds changes to it, unless its projection there would be a line."""
    patches = Patches.from_faces(*flat_grid(9))
    face = 40
    patches.normals[face] = normal
    chart = np.zeros(len(patches.areas), dtype=np.int64)
    chart[face] = 1
    assert smooth_boundaries(patches, chart, CONE_RAD, "cpu").max() + 1 == charts


def test_smooth_boundaries_without_adjacent_faces_changes_nothing() -> None:
    """Three triangles that share no vertex."""
    vertices = np.random.default_rng(1).normal(size=(9, 3))
    patches = Patches.from_faces(vertices, np.arange(9, dtype=np.int32).reshape(3, 3))
    assert smooth_boundaries(patches, np.array([0, 1, 2]), CONE_RAD, "cpu").tolist() == [0, 1, 2]
