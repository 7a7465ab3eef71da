"""Simplifying with many collapses at a time."""

import numpy as np
import pytest

from bench.geometry.mesh_quality import edge_uses, volume
from bench.geometry.surfaces import knot, sheet
from worker.extraction.kernels import runtime
from worker.extraction.simplify.gpu import decimate


@pytest.mark.parametrize("target", [8_000, 2_000])
def test_closed_surface_stays_closed_and_near(target: int) -> None:
    """No hole, no crowded edge, the target met to the triangle pair, the shape kept."""
    surface = knot(160, 80, 32)
    vertices, faces = decimate(surface.vertices, surface.faces, target, "cpu", lambda _: None)
    _, distance = runtime.find_closest_points(runtime.build_bvh(surface.vertices, surface.faces, "cpu"), vertices)
    assert target - 1 <= len(faces) <= target
    assert {2} == set(edge_uses(faces).tolist())
    assert distance.mean() < 8 / target
    assert volume(vertices, faces) == pytest.approx(volume(surface.vertices, surface.faces), rel=0.02)


def test_equal_surfaces_simplify_alike() -> None:
    """To the last bit."""
    surface = knot(80, 40, 32)
    one, other = (decimate(surface.vertices, surface.faces, 1_000, "cpu", lambda _: None) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()


def test_border_of_an_open_surface_stays() -> None:
    """Edges with one face never go."""
    surface = sheet(40, 32)
    _, faces = decimate(surface.vertices, surface.faces, 1_000, "cpu", lambda _: None)
    assert 4 * 39 == np.count_nonzero(edge_uses(faces) == 1)
    assert len(faces) < len(surface.faces)
