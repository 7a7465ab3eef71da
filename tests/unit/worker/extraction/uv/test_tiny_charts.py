"""Specks: what is too small for a place of its own in the texture."""

import numpy as np
import pytest

from bench.geometry.surfaces import grid_faces
from worker.extraction.uv.tiny_charts import hosted, specks
from worker.extraction.uv.unwrap import UvLayout, unwrap

SIDE = 9
PLATES = 8  # charts that a plate is divided into, as none may have more than so small a share
FIN = np.array([[81, 0, 9]], np.int32)  # on the plate's first edge


def plate(*more: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A square of eight metres, lying, and other vertices."""
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    flat = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    return np.concatenate([flat, np.array(more).reshape(-1, 3)]), grid_faces(SIDE, SIDE, wrap=False)


def laid_out(vertices: np.ndarray, faces: np.ndarray) -> UvLayout:
    """On a texture where a texel is eight millimetres."""
    return unwrap(vertices, faces, 1024, "cpu", lambda _: None)


def test_fin_shows_the_edge_that_it_stands_on() -> None:
    """Its vertices are its own, but the texture is the plate's: the shared corners', and their middle for the third."""
    vertices, faces = plate((0.5, 0.0, 0.001))
    layout = laid_out(vertices, np.concatenate([faces, FIN]))
    assert layout.charts == PLATES
    fin = layout.faces[-1]
    assert layout.source[fin].tolist() == FIN[0].tolist()
    assert set(fin).isdisjoint(layout.faces[:-1].ravel())
    tip, *foot = layout.uv[fin]
    (beside,) = layout.faces[:-1][np.isin(layout.source[layout.faces[:-1]], (0, 9)).sum(axis=1) == 2]
    shared = [layout.uv[beside][layout.source[beside] == vertex][0] for vertex in (0, 9)]
    assert np.allclose(foot, shared)
    assert np.allclose(tip, np.mean(shared, axis=0))


@pytest.mark.parametrize(("tip", "charts"), [((0.5, 0.0, 3.0), PLATES + 1), ((0.5, 0.0, 0.001), PLATES)])
def test_only_what_is_small_is_a_speck(tip: tuple[float, float, float], charts: int) -> None:
    """A sail of a metre and a half has a place of its own."""
    vertices, faces = plate(tip)
    assert laid_out(vertices, np.concatenate([faces, FIN])).charts == charts


def test_what_touches_nothing_has_its_own_place() -> None:
    """A grain of dust beside the plate."""
    vertices, faces = plate((20, 0, 0), (20.001, 0, 0), (20, 0.001, 0))
    assert laid_out(vertices, np.concatenate([faces, np.array([[81, 82, 83]], np.int32)])).charts == PLATES + 1


def test_specks_are_small_and_touch_what_is_not() -> None:
    """Face by face: large, small beside it, small alone."""
    faces = np.array([[0, 1, 2], [2, 3, 4], [5, 6, 7]], np.int32)
    assert specks(faces, np.arange(3), np.array([9.0, 1.0, 1.0]), 1.0, 8).tolist() == [False, True, False]


def test_speck_goes_where_it_shares_most() -> None:
    """Two vertices with chart 1, one with chart 0, one with none; or all of it in one point there."""
    source, owner = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 1])
    uv = np.array([[0, 0], [0.1, 0], [0.5, 0.5], [0.7, 0.5], [0.5, 0.9]], np.float32)
    shared, point = hosted(np.array([1, 2, 4]), np.array([0, 0, 0]), source, owner, uv)
    assert np.allclose(shared, [[0.5, 0.5], [0.7, 0.5], [0.6, 0.5]])
    assert np.allclose(point, [[0.5, 0.5]] * 3)


def test_speck_that_would_cover_its_chart_shrinks_to_a_point() -> None:
    """A lid over a corner of the plate: all of its vertices are the plate's."""
    vertices, faces = plate()
    layout = unwrap(vertices, np.concatenate([faces, np.array([[0, 1, 9]], np.int32)]), 32, "cpu", lambda _: None)
    assert np.ptp(layout.uv[layout.faces[-1]], axis=0).max() == 0
