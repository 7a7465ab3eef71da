"""Decoding: the mesh of a dual grid, hole filling, checks of the surface."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.errors import OutputInvalid
from worker.engines.trellis.decoding import check_surface, fill_holes, mesh_dual_grid
from worker.engines.trellis.models.sparse_decoder import base_level

IN, OUT = 9.0, -9.0  # logits of crossed and uncrossed


def _features(count: int) -> torch.Tensor:
    """Points at the voxels' centres, no edge crossed, all split weights equal."""
    features = torch.zeros(count, 7)
    features[:, 3:6] = OUT
    return features


def _square(axis: int) -> torch.Tensor:
    """Four voxels around the edge that leaves voxel (1, 1, 1) along an axis."""
    across = [i for i in range(3) if i != axis]
    cells = torch.ones(4, 3, dtype=torch.int32)
    cells[1:3, across[0]] += 1
    cells[2:4, across[1]] += 1
    return cells


def test_crossed_edge_gives_a_quad() -> None:
    """Two triangles whose normals point along the edge, whichever axis it has."""
    for axis in range(3):
        features = _features(4)
        features[0, 3 + axis] = IN
        vertices, faces = mesh_dual_grid(features, base_level(_square(axis)), 4, 0.5)
        a, b, c = (vertices[faces[:, corner]] for corner in range(3))
        normals = torch.linalg.cross(b - a, c - a)
        assert (2, 3) == faces.shape
        assert axis == int(normals.sum(0).abs().argmax())
        torch.testing.assert_close(normals.sum(0).abs().max(), torch.tensor(2 / 16))


def test_quad_needs_all_four_voxels() -> None:
    """At the border of the decoded voxels there is no surface."""
    features = _features(3)
    features[0, 3] = IN
    assert 0 == len(mesh_dual_grid(features, base_level(_square(0)[:3]), 4, 0.5)[1])


def test_quad_is_split_by_its_corners_weights() -> None:
    """The larger product of opposite weights wins; a tie goes to the second split."""
    features = _features(4)
    features[0, 3] = IN
    assert {1, 3} <= set(mesh_dual_grid(features, base_level(_square(0)), 4, 0.5)[1][0].tolist())
    features[[0, 2], 6] = 5.0
    assert {0, 2} <= set(mesh_dual_grid(features, base_level(_square(0)), 4, 0.5)[1][0].tolist())


def test_point_may_leave_its_voxel_by_the_margin() -> None:
    """Logits of plus and minus infinity are half a voxel outside."""
    features = _features(2)
    features[0, :3], features[1, :3] = 99.0, -99.0
    cells = torch.tensor([[0, 0, 0], [3, 3, 3]], dtype=torch.int32)
    vertices, _ = mesh_dual_grid(features, base_level(cells), 4, 0.5)
    torch.testing.assert_close(vertices, torch.tensor([[-0.125] * 3, [0.125] * 3]))


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
    """The area of each face, positive if it faces up."""
    a, b, c = (vertices[faces[:, corner].long()] for corner in range(3))
    return torch.linalg.cross(b - a, c - a)[:, 2] / 2


def test_small_hole_is_closed_with_a_fan() -> None:
    """One vertex in its middle, one face per boundary edge, wound like the rest; the outer boundary stays."""
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
    """Its boundary is longer than the limit."""
    vertices, faces = _sheet(8, 0.01, (3, 3))
    closed, all_faces = fill_holes(vertices, faces)
    assert torch.equal(vertices, closed)
    assert torch.equal(faces, all_faces)


def test_branching_boundary_stays() -> None:
    """Two holes that touch at a corner are no simple loops."""
    vertices, faces = _sheet(8, 0.005, (3, 3), (4, 4))
    assert len(faces) == len(fill_holes(vertices, faces)[1])


def test_closed_surface_is_unchanged() -> None:
    """A tetrahedron has no boundary."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
    assert fill_holes(vertices, faces)[1] is faces


class Decoded(NamedTuple):
    """The result of decoding."""

    vertices: Tensor
    faces: Tensor
    attributes: Tensor


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(shape[0])) * (high - low) + low


VALID = Decoded(
    vertices=_uniform(-0.4, 0.4, 300, 3),
    faces=torch.randint(0, 300, (600, 3), dtype=torch.int32, generator=torch.Generator().manual_seed(0)),
    attributes=_uniform(0, 1, 50, 6),
)


def test_valid_surface_passes() -> None:
    """No error is raised."""
    check_surface(*VALID)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (VALID._replace(faces=VALID.faces[:99]), "99 faces"),
        (VALID._replace(vertices=VALID.vertices * 0.01), "as large as its grid"),
        (VALID._replace(vertices=VALID.vertices * 9), "as large as its grid"),
        (VALID._replace(vertices=VALID.vertices * float("nan")), "as large as its grid"),
        (VALID._replace(attributes=VALID.attributes * float("inf")), "not finite"),
        (VALID._replace(attributes=torch.full_like(VALID.attributes, 0.5)), "one colour"),
    ],
)
def test_invalid_surface_is_rejected(broken: Decoded, message: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(OutputInvalid, match=message):
        check_surface(*broken)


def test_unused_vertices_are_ignored() -> None:
    """Decoding leaves many of them."""
    far = VALID._replace(vertices=torch.cat((VALID.vertices, torch.full((1, 3), 1e9))))
    check_surface(*far)
