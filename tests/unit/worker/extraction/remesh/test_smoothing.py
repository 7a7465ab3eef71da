"""Smoothing of a projected offset mesh: where the surface is rough, and nowhere else."""

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


def torus(bumps_m: float = 0.0, side: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A closed torus with noise on it."""
    t, s = np.meshgrid(*[np.linspace(0, 2 * np.pi, count, endpoint=False) for count in (3 * side, side)], indexing="ij")
    radius = 0.12 + np.random.default_rng(3).normal(0, bumps_m, t.shape)
    distance = 0.3 + radius * np.cos(s)
    points = np.stack([distance * np.cos(t), distance * np.sin(t), radius * np.sin(s)], axis=-1).reshape(-1, 3)
    return points.astype(np.float32), grid_faces(3 * side, side, wrap=True)


def offset_meshes(vertices: np.ndarray, faces: np.ndarray) -> tuple[wp.array, wp.array, wp.array]:
    """The offset mesh of a surface, its projection onto the surface, and its triangles."""
    surface = runtime.build_bvh(vertices, faces, "cpu")
    offset, quads = build_offset_mesh(surface, CELL_M, 0.9 * CELL_M, lambda _: None)
    projected, _ = runtime.find_closest_points(surface, offset.numpy())
    return offset, runtime.to_vec3(projected, "cpu"), triangulate_quads(offset, quads)


def smoothed(
    vertices: np.ndarray, faces: np.ndarray, *, rounds: int = 8, max_move_m: float = CELL_M, movable: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vertices before and after smoothing, and the triangles."""
    offset, positions, triangles = offset_meshes(vertices, faces)
    before = positions.numpy().copy()
    flags = wp.full(len(positions), movable, dtype=wp.bool, device="cpu")
    smooth(offset, positions, triangles, movable=flags, rounds=rounds, max_move_m=max_move_m)
    return before, positions.numpy(), triangles.numpy()


def bend_deg(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The mean angle between faces that share an edge."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    order = np.lexsort(ends.T)
    pairs = order.reshape(-1, 2) // 3  # closed: two faces per edge
    cosine = np.einsum("nd,nd->n", normals[pairs[:, 0]], normals[pairs[:, 1]])
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


def test_rough_surface_becomes_smooth() -> None:
    """The mean angle between adjacent faces is halved, and vertices hardly move."""
    before, after, faces = smoothed(*torus(bumps_m=0.006))
    assert bend_deg(after, faces) < 0.5 * bend_deg(before, faces)
    assert 0 < np.linalg.norm(after - before, axis=1).mean() < 0.7 * CELL_M


@pytest.mark.parametrize("name", ["box", "torus"])
def test_edges_and_bends_are_unchanged(name: str) -> None:
    """Faces turn at an edge too, but not in its neighbourhood."""
    before, after, _ = smoothed(*(box(-0.3, 0.3) if name == "box" else torus()))
    assert np.array_equal(after, before)


def test_no_vertex_moves_farther_than_its_limit() -> None:
    """Whatever the number of rounds."""
    before, after, _ = smoothed(*torus(bumps_m=0.012), rounds=50, max_move_m=0.1 * CELL_M)
    assert np.linalg.norm(after - before, axis=1).max() == pytest.approx(0.1 * CELL_M, rel=1e-3)


@pytest.mark.parametrize(("rounds", "movable"), [(0, True), (8, False)])
def test_immovable_vertices_do_not_move(rounds: int, movable: bool) -> None:
    """Nothing moves in zero rounds, and the sides of a thin sheet never do."""
    before, after, _ = smoothed(*torus(bumps_m=0.006), rounds=rounds, movable=movable)
    assert np.array_equal(after, before)
