"""Smoothing a skin: where the surface under it is rough, and nowhere else."""

import numpy as np
import pytest
import warp as wp

from bench.geometry.surfaces import grid_faces
from tests.unit.worker.extraction.remesh.test_remesh import box
from worker.extraction.kernels import runtime
from worker.extraction.remesh.offset_surface import build_offset_mesh
from worker.extraction.remesh.remesh import triangulate_quads
from worker.extraction.remesh.smoothing import smooth

CELL_M = 1 / 128


def ring(bumps_m: float = 0.0, side: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A closed doughnut, with noise on it."""
    t, s = np.meshgrid(*[np.linspace(0, 2 * np.pi, count, endpoint=False) for count in (3 * side, side)], indexing="ij")
    radius = 0.12 + np.random.default_rng(3).normal(0, bumps_m, t.shape)
    ring = 0.3 + radius * np.cos(s)
    points = np.stack([ring * np.cos(t), ring * np.sin(t), radius * np.sin(s)], axis=-1).reshape(-1, 3)
    return points.astype(np.float32), grid_faces(3 * side, side, wrap=True)


def skins(vertices: np.ndarray, faces: np.ndarray) -> tuple[wp.array, wp.array, wp.array]:
    """The skin around a surface, where it comes to lie on it, and its triangles."""
    surface = runtime.build_bvh(vertices, faces, "cpu")
    wrapped, quads = build_offset_mesh(surface, CELL_M, 0.9 * CELL_M, lambda _: None)
    place, _ = runtime.find_closest_points(surface, wrapped.numpy())
    return wrapped, runtime.to_vec3(place, "cpu"), triangulate_quads(wrapped, quads)


def smoothed(
    vertices: np.ndarray, faces: np.ndarray, *, rounds: int = 8, reach_m: float = CELL_M, movable: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the skin's vertices were before smoothing and are after it, and its triangles."""
    wrapped, skin, corners = skins(vertices, faces)
    was = skin.numpy().copy()
    flags = wp.full(len(skin), movable, dtype=wp.bool, device="cpu")
    smooth(wrapped, skin, corners, movable=flags, rounds=rounds, reach_m=reach_m)
    return was, skin.numpy(), corners.numpy()


def bend_deg(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The mean angle between faces that share an edge."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    order = np.lexsort(ends.T)
    pairs = order.reshape(-1, 2) // 3  # the skin is closed: two faces an edge
    cosine = np.einsum("nd,nd->n", normals[pairs[:, 0]], normals[pairs[:, 1]])
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


def test_rough_skin_becomes_smooth() -> None:
    """Faces bend half as much from one to the next, and the skin is nearly where it was."""
    was, now, faces = smoothed(*ring(bumps_m=0.006))
    assert bend_deg(now, faces) < 0.5 * bend_deg(was, faces)
    assert 0 < np.linalg.norm(now - was, axis=1).mean() < 0.7 * CELL_M


@pytest.mark.parametrize("name", ["box", "ring"])
def test_edges_and_bends_stay_as_they_are(name: str) -> None:
    """Faces turn at an edge too, but those around it do not."""
    was, now, _ = smoothed(*(box(-0.3, 0.3) if name == "box" else ring()))
    assert np.array_equal(now, was)


def test_nothing_moves_farther_than_it_may() -> None:
    """However many rounds there are."""
    was, now, _ = smoothed(*ring(bumps_m=0.012), rounds=50, reach_m=0.1 * CELL_M)
    assert np.linalg.norm(now - was, axis=1).max() == pytest.approx(0.1 * CELL_M, rel=1e-3)


@pytest.mark.parametrize(("rounds", "movable"), [(0, True), (8, False)])
def test_what_may_not_move_does_not(rounds: int, movable: bool) -> None:
    """Without rounds nothing, and never the sides of a thin sheet."""
    was, now, _ = smoothed(*ring(bumps_m=0.006), rounds=rounds, movable=movable)
    assert np.array_equal(now, was)
