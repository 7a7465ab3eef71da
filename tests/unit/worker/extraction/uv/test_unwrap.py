"""The layout of a whole mesh, and tiny charts, which share texels with a neighbour."""

import numpy as np
import pytest

from bench.geometry.mesh_quality import measure_coverage
from bench.geometry.surfaces import grid_faces, knot
from tests.unit.worker.extraction.uv.conftest import ramp, squares
from worker.extraction.uv.unwrap import UvLayout, find_host_uv, find_tiny_charts, unwrap

SIDE = 9
PLATE_CHARTS = 8  # into which the plate is divided, as a chart may have an eighth of the area
FIN = np.array([[81, 0, 9]], np.int32)  # a triangle on the plate's first edge


def plate(*more: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A flat square of eight metres, and additional vertices."""
    x, y = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    flat = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    return np.concatenate([flat, np.array(more).reshape(-1, 3)]), grid_faces(SIDE, SIDE, wrap=False)


def unwrap_to_1024_px(vertices: np.ndarray, faces: np.ndarray) -> UvLayout:
    """On a texture with texels of eight millimetres."""
    return unwrap(vertices, faces, 1024, "cpu", lambda _: None)


def test_waves_within_the_cone_are_not_cut() -> None:
    """A tube with waves of 36 degrees has some 160 charts; a cone of 58 degrees leaves 255."""
    surface = knot(240, 60, 32)
    assert unwrap(surface.vertices, surface.faces, 1024, "cpu", lambda _: None).charts < 200


def test_ramp_is_cut_until_nothing_overlaps() -> None:
    """All normals are within one cone, so only the overlap itself can show it."""
    vertices, faces = ramp(2.5)
    layout = unwrap(vertices, faces, 512, "cpu", lambda _: None)
    assert layout.charts > 1
    assert measure_coverage(layout.uv, layout.faces.astype(np.int64), 512)[1] == 0


def test_an_overlapping_chart_is_cut_into_few_parts() -> None:
    """Twenty ramps, each within one chart's limits, become two or three charts each (equal costs leave a choice)."""
    vertices, faces = ramp(1.5, 60)
    many = np.concatenate([vertices + np.array([3.0 * i, 0, 0]) for i in range(20)])
    all_faces = np.concatenate([faces + len(vertices) * i for i in range(20)])
    layout = unwrap(many, all_faces, 512, "cpu", lambda _: None)
    assert 40 <= layout.charts <= 41
    assert measure_coverage(layout.uv, layout.faces.astype(np.int64), 512)[1] == 0


def test_a_layout_keeps_the_faces_of_the_mesh() -> None:
    """In the same order; a vertex is duplicated only where charts meet."""
    surface = knot(60, 20, 32)
    layout = unwrap(surface.vertices, surface.faces, 512, "cpu", lambda _: None)
    assert (layout.source[layout.faces] == surface.faces).all()
    assert len(set(zip(layout.source, map(tuple, layout.uv), strict=True))) == len(layout.source)


def test_the_density_of_texels_is_even() -> None:
    """A chart's area in the texture is proportional to its area in space."""
    surface = knot(60, 20, 32)
    layout = unwrap(surface.vertices, surface.faces, 512, "cpu", lambda _: None)
    a, b, c = layout.uv[layout.faces].astype(np.float64).transpose(1, 0, 2)
    flat = np.abs(np.cross(np.pad(b - a, ((0, 0), (0, 1))), np.pad(c - a, ((0, 0), (0, 1))))[:, 2])
    a, b, c = surface.vertices[surface.faces].astype(np.float64).transpose(1, 0, 2)
    density = flat / np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert np.quantile(density, 0.05) > 0.5 * np.median(density)


def test_a_layout_uses_free_space_for_gutters() -> None:
    """Sixteen plates are more than the two texels apart that bilinear filtering needs."""
    points, faces, _ = squares(16, 1.0)
    plates = np.concatenate([points, np.repeat(np.arange(16.0), 4)[:, None]], axis=1)
    corners = unwrap(plates, faces, 256, "cpu", lambda _: None).uv.reshape(16, 4, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    between = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).max(axis=2)
    assert between[~np.eye(16, dtype=bool)].min() * 256 > 6


def test_a_tiny_chart_shows_the_texture_at_its_shared_vertices() -> None:
    """It has vertices of its own, with the coordinates of the plate's; the third vertex gets their mean."""
    vertices, faces = plate((0.5, 0.0, 0.001))
    layout = unwrap_to_1024_px(vertices, np.concatenate([faces, FIN]))
    assert layout.charts == PLATE_CHARTS
    fin = layout.faces[-1]
    assert layout.source[fin].tolist() == FIN[0].tolist()
    assert set(fin).isdisjoint(layout.faces[:-1].ravel())
    tip, *foot = layout.uv[fin]
    (neighbour,) = layout.faces[:-1][np.isin(layout.source[layout.faces[:-1]], (0, 9)).sum(axis=1) == 2]
    shared = [layout.uv[neighbour][layout.source[neighbour] == vertex][0] for vertex in (0, 9)]
    assert np.allclose(foot, shared)
    assert np.allclose(tip, np.mean(shared, axis=0))


@pytest.mark.parametrize(("tip", "charts"), [((0.5, 0.0, 3.0), PLATE_CHARTS + 1), ((0.5, 0.0, 0.001), PLATE_CHARTS)])
def test_only_small_charts_are_tiny(tip: tuple[float, float, float], charts: int) -> None:
    """A sail of one and a half square metres has space of its own."""
    vertices, faces = plate(tip)
    assert unwrap_to_1024_px(vertices, np.concatenate([faces, FIN])).charts == charts


def test_an_isolated_small_chart_has_its_own_space() -> None:
    """A grain of dust next to the plate."""
    vertices, faces = plate((20, 0, 0), (20.001, 0, 0), (20, 0.001, 0))
    assert (
        unwrap_to_1024_px(vertices, np.concatenate([faces, np.array([[81, 82, 83]], np.int32)])).charts
        == PLATE_CHARTS + 1
    )


def test_tiny_charts_are_small_and_touch_a_larger_one() -> None:
    """Three faces: large, small at the large one, small and isolated."""
    faces = np.array([[0, 1, 2], [2, 3, 4], [5, 6, 7]], np.int32)
    assert find_tiny_charts(faces, np.arange(3), np.array([9.0, 1.0, 1.0]), 1.0, 8).tolist() == [False, True, False]


def test_a_tiny_chart_goes_to_the_chart_with_most_shared_vertices() -> None:
    """It shares two vertices with chart 1 and one with chart 0."""
    source, owner = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 1])
    uv = np.array([[0, 0], [0.1, 0], [0.5, 0.5], [0.7, 0.5], [0.5, 0.9]], np.float32)
    shared, point = find_host_uv(np.array([1, 2, 4]), np.array([0, 0, 0]), source, owner, uv)
    assert np.allclose(shared, [[0.5, 0.5], [0.7, 0.5], [0.6, 0.5]])
    assert np.allclose(point, [[0.5, 0.5]] * 3)


def test_a_tiny_chart_that_would_cover_texels_shrinks_to_a_point() -> None:
    """A lid over a corner of the plate: all of its vertices are the plate's."""
    vertices, faces = plate()
    layout = unwrap(vertices, np.concatenate([faces, np.array([[0, 1, 9]], np.int32)]), 32, "cpu", lambda _: None)
    assert np.ptp(layout.uv[layout.faces[-1]], axis=0).max() == 0
