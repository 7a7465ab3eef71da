"""Inconsistently wound faces are flipped to agree and to face outward."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.domain.parameters import ExportParameters
from tests.support.stub_engine import Block
from worker.engine import Progress, State
from worker.extraction import Provenance, extract
from worker.extraction.mesh.repair import orient_faces

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
OUTWARD = np.array([half for a, b, c, d in QUADS for half in ((a, b, c), (a, c, d))], np.int32)


def _volume(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> float:
    a, b, c = (vertices[faces[:, i]].astype(float) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def _turned(faces: NDArray[np.int32], which: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.where(which[:, None], faces[:, [0, 2, 1]], faces)


def _strip(twists: int, count: int = 40) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A band around the Y axis with `twists` half twists."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    lean = twists * turn / 2
    rims = []
    for side in (-0.2, 0.2):
        radius = 1 + side * np.cos(lean + np.pi / 2)
        rims.append(np.stack((radius * np.cos(turn), side * np.sin(lean + np.pi / 2), radius * np.sin(turn)), axis=1))
    near, far = np.arange(count), np.arange(count) + count
    then_near, then_far = (near + 1) % count, (near + 1) % count + count
    if twists % 2:
        then_near[-1], then_far[-1] = count, 0
    faces = np.concatenate((np.stack((near, far, then_near), 1), np.stack((then_near, far, then_far), 1)))
    return np.concatenate(rims).astype(np.float32), faces.astype(np.int32)


def _disagreements(faces: NDArray[np.int32]) -> int:
    """Count the edges that two faces pass in the same direction."""
    half_edges = np.stack((faces.ravel(), np.roll(faces, -1, axis=1).ravel()), axis=1)
    return len(half_edges) - len(np.unique(half_edges, axis=0))


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=60)
def test_closed_surface_faces_outward(turns: list[bool], centre: tuple[float, float, float]) -> None:
    """Whatever the initial winding, and wherever it is."""
    vertices = CUBE + np.array(centre, np.float32)
    assert np.array_equal(np.sort(orient_faces(vertices, _turned(OUTWARD, np.array(turns))), 1), np.sort(OUTWARD, 1))
    oriented = orient_faces(vertices, _turned(OUTWARD, np.array(turns)))
    assert _disagreements(oriented) == 0
    assert _volume(CUBE, oriented) == pytest.approx(1)


def test_components_are_flipped_separately() -> None:
    """Two cubes, one of them inside out."""
    vertices = np.concatenate((CUBE, CUBE + np.float32(5)))
    faces = np.concatenate((OUTWARD, OUTWARD[:, ::-1] + 8))
    assert _volume(vertices, orient_faces(vertices, faces)) == pytest.approx(2)


def test_open_surface_faces_outward() -> None:
    """A band without a twist: every normal points away from the axis."""
    vertices, faces = _strip(0)
    oriented = orient_faces(vertices, _turned(faces, np.random.default_rng(0).random(len(faces)) < 0.5))
    a, b, c = (vertices[oriented[:, i]] for i in range(3))
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), (a + b + c) / 3) > 0).all()
    assert _disagreements(oriented) == 0


def test_moebius_strip_has_one_inconsistent_edge() -> None:
    """Its faces cannot all agree; one seam is left."""
    vertices, faces = _strip(1)
    oriented = orient_faces(vertices, _turned(faces, np.random.default_rng(0).random(len(faces)) < 0.5))
    assert _disagreements(oriented) == 1


def test_non_manifold_edge_does_not_spread_orientation() -> None:
    """Three faces on one edge: each is its own component, and none is lost."""
    vertices = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [-1, 0, -1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]], np.int32)
    assert np.array_equal(np.sort(orient_faces(vertices, faces), 1), np.sort(faces, 1))


def test_consistent_surface_is_unchanged() -> None:
    """Down to the last index."""
    assert np.array_equal(OUTWARD, orient_faces(CUBE, OUTWARD))


def test_extraction_without_remeshing_orients_faces() -> None:
    """A decoded surface's winding follows the axes, so it says nothing about outside."""
    state = State("relief", {"colour": np.array([9, 99, 199], np.uint8)})
    block = Block().decode(state, Progress())
    mixed = replace(block, faces=_turned(block.faces, np.arange(len(block.faces)) % 2 == 0))
    parameters = ExportParameters(remesh=False, texture_size=512)
    labels = Provenance(seed=1, generator="test", custom_id=None, engine="relief")
    mesh = extract(mixed, parameters, provenance=labels, progress=lambda _: None).mesh
    outward = mesh.positions + mesh.origin
    assert (np.einsum("ij,ij->i", mesh.normals, outward) > 0).all()
