"""Voxels with a point each become a surface: one quad around each lattice edge that the surface crosses."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.sparse_levels import Level, offset_number

# The four voxels around the edge that leaves a voxel along x, y and z, in the order of the quad's corners.
_AROUND = (
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
)
_ALONG_FIRST = (0, 1, 2, 0, 2, 3)  # the quad's triangles, cut from corner 0 to 2
_ALONG_SECOND = (0, 1, 3, 3, 1, 2)  # or from 1 to 3


def mesh_dual_grid(features: Tensor, level: Level, resolution: int, voxel_margin: float) -> tuple[Tensor, Tensor]:
    """Vertices, float32 [voxels, 3] in [-0.5, 0.5], and faces, int32 [faces, 3], of a decoded shape.

    features: float32 [voxels, 7]: where in its voxel the point lies (it may leave it by `voxel_margin`), whether the
    surface crosses the voxel's edge along each axis, and how much the quad wants to be cut through this corner. The
    faces' winding follows the axes: it does not tell outside from inside.
    """
    place = (1 + 2 * voxel_margin) * functional.sigmoid(features[:, :3]) - voxel_margin
    vertices = (level.coords.float() + place) * (1 / resolution) - 0.5
    quads = _quads(features[:, 3:6] > 0, level)
    pull = functional.softplus(features[:, 6])[quads]
    first, second = (quads[:, list(cut)] for cut in (_ALONG_FIRST, _ALONG_SECOND))
    through_first = pull[:, 0] * pull[:, 2] > pull[:, 1] * pull[:, 3]
    return vertices, torch.where(through_first[:, None], first, second).reshape(-1, 3).int()


def _quads(crossed: Tensor, level: Level) -> Tensor:
    """int64 [quads, 4], for crossed bool [voxels, 3]; none where one of the four voxels is missing."""
    numbers = torch.tensor([[offset_number(*offset) for offset in axis] for axis in _AROUND], device=crossed.device)
    voxel, axis = crossed.nonzero().unbind(1)
    corners = level.neighbours[voxel].gather(1, numbers[axis])
    return corners[(corners < len(level.coords)).all(dim=1)].long()
