"""Vertex normals."""

import numpy as np
import pytest

from bench.geometry.surfaces import grid_faces, knot
from worker.extraction.mesh.geometry import vertex_normals


def fold(angle_rad: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two unit squares that share an edge: vertices, faces, and faces with the edge doubled."""
    up, out = np.sin(angle_rad), np.cos(angle_rad)
    vertices = np.array([[-1, 0, 0], [-1, 0, 1], [0, 0, 0], [0, 0, 1], [out, up, 0], [out, up, 1]])
    faces = np.array([[0, 1, 3], [0, 3, 2], [2, 3, 5], [2, 5, 4]], np.int32)
    split = np.array([[0, 1, 3], [0, 3, 2], [4, 5, 7], [4, 7, 6]], np.int32)
    return vertices, faces, split


def test_flat_grid_has_one_normal() -> None:
    """Borders included."""
    x, z = np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij")
    faces = grid_faces(4, 4, wrap=False)
    flat = vertex_normals(np.stack([x, 0 * x, z], axis=-1).reshape(-1, 3), faces, faces)
    assert flat == pytest.approx(np.tile([0, -1, 0], (16, 1)))


def test_seam_on_a_smooth_surface_is_invisible() -> None:
    """Both copies of a vertex get the same normal."""
    split = vertex_normals(*fold(0.3))
    assert split[2:4] == pytest.approx(split[4:6], abs=1e-6)


@pytest.mark.parametrize("angle_rad", [1.4, 2.5, 3.1])
def test_crease_stays_sharp(angle_rad: float) -> None:
    """Each copy takes its own side's normal."""
    vertices, faces, split = fold(angle_rad)
    sharp = vertex_normals(vertices, faces, split)
    assert sharp[2:4] == pytest.approx(np.tile([0, 1, 0], (2, 1)), abs=1e-6)
    assert sharp[4:6] == pytest.approx(np.tile([-np.sin(angle_rad), np.cos(angle_rad), 0], (2, 1)), abs=1e-6)


def test_normals_of_a_tube_point_away_from_it() -> None:
    """Unit length, and on the front side of the faces."""
    surface = knot(80, 24, 32)
    smooth = vertex_normals(surface.vertices, surface.faces, surface.faces)
    a, b, c = surface.vertices[surface.faces].transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    assert np.linalg.norm(smooth, axis=1) == pytest.approx(np.ones(len(smooth)), abs=1e-5)
    assert np.einsum("fd,fcd->fc", flat, smooth[surface.faces]).min() > 0
