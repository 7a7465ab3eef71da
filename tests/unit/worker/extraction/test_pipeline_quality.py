"""The quality of an extracted model, measured on the file against its surface."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.geometry.glb_reader import read_glb
from bench.geometry.mesh_quality import Quality, measure
from bench.geometry.surfaces import colours
from worker.engine import Surface

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made

TARGET = 4_000
NAMES = ["knot", "sheet", "noisy", "parts"]
CELL_M = 1 / 128


@pytest.fixture(scope="module")
def qualities(made: "Made", surfaces: dict[str, Surface]) -> dict[str, Quality]:
    """Each surface's model, measured once."""
    return {
        name: measure(
            read_glb(made(name).glb), surfaces[name], origin=made(name).mesh.origin, truth=colours, samples=30_000
        )
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_close_to_the_surface(qualities: dict[str, Quality], name: str) -> None:
    """A mean of a quarter of a cell, at most one cell for 99 %."""
    assert qualities[name].off_mean < CELL_M / 4 + 1e-4
    assert qualities[name].off_p99 < CELL_M


@pytest.mark.parametrize("name", ["knot", "sheet", "parts"])
def test_the_model_covers_the_surface(qualities: dict[str, Quality], name: str) -> None:
    """Except for the noisy one: its inner parts are hidden, and removed on purpose."""
    assert qualities[name].missed_mean < CELL_M / 4 + 1e-4
    assert qualities[name].missed_p99 < CELL_M


@pytest.mark.parametrize("name", NAMES)
def test_the_model_has_the_colours_of_the_surface(qualities: dict[str, Quality], name: str) -> None:
    """At points all over the model, after voxels, texture, JPEG and bilinear filtering."""
    assert qualities[name].on_model_db > 40


@pytest.mark.parametrize("name", ["knot", "sheet", "parts"])
def test_colours_of_the_surface_appear_at_the_same_points(qualities: dict[str, Quality], name: str) -> None:
    """At points all over the surface, at the closest point of the model."""
    assert qualities[name].colour_db > 38
    assert qualities[name].roughness_db > 40


@pytest.mark.parametrize("name", NAMES)
def test_hidden_parts_use_hardly_any_triangles_or_texels(qualities: dict[str, Quality], name: str) -> None:
    """The noisy surface folds over itself, so it has some."""
    assert qualities[name].unseen_faces < (0.1 if name == "noisy" else 0.03)
    assert qualities[name].unseen_texels < (0.05 if name == "noisy" else 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_no_texel_belongs_to_two_faces(qualities: dict[str, Quality], name: str) -> None:
    """Charts overlap neither themselves nor each other."""
    assert qualities[name].overlapping_texels == 0


@pytest.mark.parametrize("name", NAMES)
def test_charts_use_more_than_half_of_the_texture(qualities: dict[str, Quality], name: str) -> None:
    """At the smallest size."""
    assert qualities[name].coverage > 0.53


@pytest.mark.parametrize("name", NAMES)
def test_model_is_closed_and_nearly_manifold(qualities: dict[str, Quality], name: str) -> None:
    """Also for an open surface: its two sides are joined."""
    assert qualities[name].boundary_edges <= 0.002 * TARGET
    assert qualities[name].nonmanifold_edges <= 0.02 * TARGET


@pytest.mark.parametrize("name", NAMES)
def test_faces_wind_outward_and_normals_agree(qualities: dict[str, Quality], name: str) -> None:
    """For nearly all faces: at a sharp edge, a smooth normal may point away."""
    assert qualities[name].volume > 0
    assert qualities[name].flipped_normals < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_triangles_keep_to_the_target(made: "Made", name: str) -> None:
    """Never more, and not many fewer."""
    assert 0.95 * TARGET <= made(name).triangles <= TARGET


@pytest.mark.parametrize("name", NAMES)
def test_the_origin_is_the_middle_of_the_lowest_side(made: "Made", name: str) -> None:
    """Lowest point at y = 0, bounding box centred in x and z."""
    positions = read_glb(made(name).glb).positions
    low, high = positions.min(axis=0), positions.max(axis=0)
    assert [low[0] + high[0], low[1], low[2] + high[2]] == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_model_is_moved_but_neither_rotated_nor_scaled(made: "Made", surfaces: dict[str, Surface]) -> None:
    """Its extent is that of the surface."""
    extent = np.ptp(read_glb(made("knot").glb).positions, axis=0)
    assert extent == pytest.approx(np.ptp(surfaces["knot"].vertices, axis=0), rel=0.02)
