"""Straightening the outlines of charts."""

import numpy as np
import pytest

from bench.geometry.surfaces import grid_faces, knot
from worker.extraction.uv.boundary_smoothing import straightened
from worker.extraction.uv.segmentation import Limits, Patches, cluster

CONE_RAD = 1.2


def plain(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A square in the plane, a metre for each of its cells."""
    x, y = np.meshgrid(np.arange(float(side)), np.arange(float(side)), indexing="ij")
    return np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3), grid_faces(side, side, wrap=False)


def outline_m(patches: Patches, chart: np.ndarray) -> float:
    """How long the borders between charts are."""
    one, other = chart[patches.pairs].T
    return float(patches.borders[one != other].sum())


def pieces(patches: Patches, chart: np.ndarray) -> int:
    """Connected pieces that charts are made of."""
    name = np.arange(len(chart))
    one, other = patches.pairs[chart[patches.pairs[:, 0]] == chart[patches.pairs[:, 1]]].T
    while True:
        least = name.copy()
        np.minimum.at(least, one, name[other])
        np.minimum.at(least, other, name[one])
        if np.array_equal(least, name):
            return len(np.unique(name))
        name = least


def test_ragged_border_becomes_straight() -> None:
    """Two halves of a plain, with teeth a face deep between them."""
    vertices, faces = plain(41)
    patches = Patches.faces(vertices, faces)
    middle = vertices[faces].mean(axis=1)[:, 0]
    chart = (middle + np.random.default_rng(5).uniform(-0.5, 0.5, len(faces)) > 20).astype(np.int64)
    straight = straightened(patches, chart, CONE_RAD, "cpu")
    assert outline_m(patches, straight) < 0.75 * outline_m(patches, chart)
    assert outline_m(patches, straight) < 50
    assert abs(np.bincount(straight)[0] - np.bincount(chart)[0]) < 40


def test_charts_of_a_knot_stay_whole_and_flat() -> None:
    """Their outlines are shorter, all are one piece, and nothing leans farther than it may."""
    surface = knot(200, 60, 64)
    patches = Patches.faces(surface.vertices, surface.faces)
    chart = cluster(patches, Limits(CONE_RAD))
    straight = straightened(patches, chart, CONE_RAD, "cpu")
    assert outline_m(patches, straight) < outline_m(patches, chart) - 0.1
    assert pieces(patches, straight) == straight.max() + 1
    axis = patches.joined(straight).normals[straight]
    cosine = np.einsum("nd,nd->n", axis, patches.normals)
    cosine /= np.linalg.norm(axis, axis=1) * np.linalg.norm(patches.normals, axis=1)
    assert np.degrees(np.arccos(cosine)).max() < np.degrees(CONE_RAD) + 3  # the axes move a little with the faces


@pytest.mark.parametrize(("normal", "charts"), [([0.0, 0.0, 0.5], 1), ([0.5, 0.0, 0.0], 2)], ids=["flat", "upright"])
def test_what_leans_too_far_stays_where_it_is(normal: list[float], charts: int) -> None:
    """A face all around which another chart lies: it is taken in unless it would be laid out as a line there."""
    patches = Patches.faces(*plain(9))
    face = 40
    patches.normals[face] = normal
    chart = np.zeros(len(patches.areas), dtype=np.int64)
    chart[face] = 1
    assert straightened(patches, chart, CONE_RAD, "cpu").max() + 1 == charts


def test_faces_without_neighbours_are_left_alone() -> None:
    """Three triangles that share nothing."""
    vertices = np.random.default_rng(1).normal(size=(9, 3))
    patches = Patches.faces(vertices, np.arange(9, dtype=np.int32).reshape(3, 3))
    assert straightened(patches, np.array([0, 1, 2]), CONE_RAD, "cpu").tolist() == [0, 1, 2]
