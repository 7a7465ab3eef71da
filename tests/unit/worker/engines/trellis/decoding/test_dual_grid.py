"""Surfaces from voxels with points."""

import torch

from worker.engines.trellis.decoding.dual_grid import mesh_dual_grid
from worker.engines.trellis.models.sparse_levels import base_level

IN, OUT = 9.0, -9.0  # logits of crossed and uncrossed


def _features(count: int) -> torch.Tensor:
    """Points at the voxels' centres, no edge crossed, all corners pulling alike."""
    features = torch.zeros(count, 7)
    features[:, 3:6] = OUT
    return features


def _square(axis: int) -> torch.Tensor:
    """Four voxels around the edge that leaves voxel (1, 1, 1) along an axis."""
    others = [other for other in range(3) if other != axis]
    cells = torch.ones(4, 3, dtype=torch.int32)
    cells[1:3, others[0]] += 1
    cells[2:4, others[1]] += 1
    return cells


def test_crossed_edge_makes_a_quad_around_it() -> None:
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
    """At the rim of what was decoded there is no surface."""
    features = _features(3)
    features[0, 3] = IN
    assert 0 == len(mesh_dual_grid(features, base_level(_square(0)[:3]), 4, 0.5)[1])


def test_quad_is_cut_through_the_corners_that_pull() -> None:
    """The larger product of opposite pulls wins; a draw goes to the second cut."""
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
