"""Simplification by parallel edge collapse, on the CPU device."""

import numpy as np
import pytest

from bench.geometry.mesh_quality import count_edge_faces, volume
from bench.geometry.surfaces import knot, sheet
from worker.extraction.kernels import runtime
from worker.extraction.simplify.gpu import decimate


@pytest.mark.parametrize("target", [4_000, 1_000])
def test_closed_surface_stays_closed_and_near(target: int) -> None:
    """No hole, no edge with three faces, twice the target within two triangles, the shape kept."""
    surface = knot(160, 80, 32)
    vertices, faces = decimate(surface.vertices, surface.faces, target, "cpu", lambda _: None)
    _, distance = runtime.find_closest_points(runtime.build_bvh(surface.vertices, surface.faces, "cpu"), vertices)
    assert 2 * target - 1 <= len(faces) <= 2 * target
    assert {2} == set(count_edge_faces(faces).tolist())
    assert distance.mean() < 4 / target
    assert volume(vertices, faces) == pytest.approx(volume(surface.vertices, surface.faces), rel=0.02)


def test_result_is_deterministic() -> None:
    """Equal surfaces give equal bits."""
    surface = knot(80, 40, 32)
    first, second = (decimate(surface.vertices, surface.faces, 1_000, "cpu", lambda _: None) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_border_of_an_open_surface_stays() -> None:
    """Edges with one face never collapse."""
    surface = sheet(40, 32)
    _, faces = decimate(surface.vertices, surface.faces, 1_000, "cpu", lambda _: None)
    assert 4 * 39 == np.count_nonzero(count_edge_faces(faces) == 1)
    assert len(faces) < len(surface.faces)
