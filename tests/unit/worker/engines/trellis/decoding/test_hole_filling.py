"""Closing pinholes."""

import numpy as np
import torch
from torch import Tensor

from worker.engines.trellis.decoding.hole_filling import fill_holes


def _sheet(side: int, spacing: float, *removed: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A flat square of side^2 quads in the xy-plane, wound upwards, without some of them."""
    x, y = np.meshgrid(np.arange(side + 1), np.arange(side + 1), indexing="ij")
    vertices = np.stack([x.ravel() * spacing, y.ravel() * spacing, 0 * x.ravel()], axis=1)
    faces = []
    for i in range(side):
        for j in range(side):
            if (i, j) not in removed:
                a, b, c, d = (p * (side + 1) + q for p, q in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)))
                faces += [(a, b, c), (a, c, d)]
    return torch.tensor(vertices, dtype=torch.float32), torch.tensor(faces, dtype=torch.int32)


def _areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """Of each face, positive where it looks up."""
    a, b, c = (vertices[faces[:, corner].long()] for corner in range(3))
    return torch.linalg.cross(b - a, c - a)[:, 2] / 2


def test_small_hole_is_closed_with_a_fan() -> None:
    """One vertex in its middle, one face per rim edge, wound like the rest; the outer rim stays."""
    vertices, faces = _sheet(8, 0.005, (3, 3))
    closed, all_faces = fill_holes(vertices, faces)
    assert (len(vertices) + 1, len(faces) + 4) == (len(closed), len(all_faces))
    torch.testing.assert_close(closed[-1], torch.tensor([0.0175, 0.0175, 0]))
    areas = _areas(closed, all_faces)
    assert bool((areas > 0).all())
    torch.testing.assert_close(areas.sum(), torch.tensor(0.04**2))


def test_several_holes_are_closed_at_once() -> None:
    """Each with its own vertex."""
    vertices, faces = _sheet(8, 0.005, (1, 1), (5, 6), (3, 3))
    closed, all_faces = fill_holes(vertices, faces)
    assert (len(vertices) + 3, len(faces) + 12) == (len(closed), len(all_faces))


def test_large_hole_stays() -> None:
    """Its rim is longer than what TRELLIS.2 closes."""
    vertices, faces = _sheet(8, 0.01, (3, 3))
    closed, all_faces = fill_holes(vertices, faces)
    assert torch.equal(vertices, closed)
    assert torch.equal(faces, all_faces)


def test_branching_rim_stays() -> None:
    """Two holes that touch in a corner are no simple loops."""
    vertices, faces = _sheet(8, 0.005, (3, 3), (4, 4))
    assert len(faces) == len(fill_holes(vertices, faces)[1])


def test_closed_surface_is_left_as_it_is() -> None:
    """A tetrahedron has no rim."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    assert fill_holes(vertices, faces)[1] is faces
