"""Decode latents to a surface: sparse decoders, a mesh by dual contouring, filled holes, checks.

The shape decoder predicts a flexible dual grid: for each voxel a point, which of three edges the surface crosses, and
how its quads are split. As in dual contouring (Ju et al. 2002) each crossed edge gives one quad.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from shared.domain.job import Stage
from shared.errors import EmptySurface, OutputInvalid
from worker.engine import Progress, Surface
from worker.engines.trellis.models.sparse_decoder import Level, offset_number
from worker.engines.trellis.pipeline_models import PipelineModels
from worker.engines.trellis.sampling.latents import Latents

SHAPE_SHARE = 0.6  # of decoding's time, about
MAX_PERIMETER = 0.03  # of the grid's side: the same limit as upstream's
MIN_FACES = 100
MIN_EXTENT = 0.02  # of the grid's side, along the longest axis
MAX_EXTENT = 1.5
MIN_COLOUR_DEVIATION = 1e-6  # below this all voxels have one colour, which no working network produces
# The four voxels that share the edge of a voxel along x, y and z, in the order of the quad's corners.
_EDGE_VOXELS = (
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
)
_CUT_0_2 = (0, 1, 2, 0, 2, 3)  # the quad's triangles, split from corner 0 to 2
_CUT_1_3 = (0, 1, 3, 3, 1, 2)  # or from 1 to 3


def decode_surface(models: PipelineModels, latents: Latents, progress: Progress) -> Surface:
    """Decode the shape, then the texture on the shape's voxels.

    Raises:
        EmptySurface: the shape has no face.
        OutputInvalid: see `check_surface`.
    """

    def on_level(begins: float, ends: float) -> Callable[[float], None]:
        return lambda done: progress(Stage.DECODE, begins + (ends - begins) * done)

    shape = models.shape_decoder
    features, levels = shape.decode(latents.shape, latents.coords, on_level(0, SHAPE_SHARE))
    vertices, faces = mesh_dual_grid(features, levels.finest, latents.resolution, shape.voxel_margin)
    if len(faces) == 0:
        raise EmptySurface("the sampled shape has no surface")
    vertices, faces = fill_holes(vertices, faces)
    material = models.texture_decoder.decode_on_levels(latents.texture, levels, on_level(SHAPE_SHARE, 0.95))
    material = (material * 0.5 + 0.5).clamp(0, 1)
    check_surface(vertices, faces, material)
    coords = _y_up_cells(levels.finest.coords, latents.resolution)
    surface = Surface(
        vertices=_y_up(vertices).cpu().numpy(),
        faces=faces.cpu().numpy(),
        coords=coords.cpu().numpy(),
        attributes=material.cpu().numpy(),
        resolution=latents.resolution,
    )
    progress(Stage.DECODE, 1)
    return surface


def _y_up(points: Tensor) -> Tensor:
    """Rotate from TRELLIS.2's axes (Z up, front -Y) to ours (Y up, front +Z): a quarter turn about X."""
    x, y, z = points.unbind(1)
    return torch.stack((x, z, -y), dim=1)


def _y_up_cells(cells: Tensor, resolution: int) -> Tensor:
    """Rotate cells of a grid like `_y_up`."""
    x, y, z = cells.unbind(1)
    return torch.stack((x, z, resolution - 1 - y), dim=1)


def mesh_dual_grid(features: Tensor, level: Level, resolution: int, voxel_margin: float) -> tuple[Tensor, Tensor]:
    """Mesh a decoded dual grid: vertices, float32 [voxels, 3] in [-0.5, 0.5], and faces, int32 [faces, 3].

    The winding follows the axes: it does not distinguish outside from inside.

    Args:
        features: float32 [voxels, 7], logits: the point's position in its voxel (which it may leave by
            `voxel_margin`), whether the surface crosses the voxel's edge along each axis, and the weight of a split
            through this corner.
    """
    local = (1 + 2 * voxel_margin) * functional.sigmoid(features[:, :3]) - voxel_margin
    vertices = (level.coords.float() + local) * (1 / resolution) - 0.5
    quads = _quads(features[:, 3:6] > 0, level)
    weight = functional.softplus(features[:, 6])[quads]
    first, second = (quads[:, list(cut)] for cut in (_CUT_0_2, _CUT_1_3))
    through_first = weight[:, 0] * weight[:, 2] > weight[:, 1] * weight[:, 3]
    return vertices, torch.where(through_first[:, None], first, second).reshape(-1, 3).int()


def _quads(crossed: Tensor, level: Level) -> Tensor:
    """Return int64 [quads, 4] for crossed bool [voxels, 3]; no quad if one of its four voxels is missing."""
    numbers = torch.tensor(
        [[offset_number(*offset) for offset in axis] for axis in _EDGE_VOXELS], device=crossed.device
    )
    voxel, axis = crossed.nonzero().unbind(1)
    corners = level.neighbours[voxel].gather(1, numbers[axis])
    return corners[(corners < len(level.coords)).all(dim=1)].long()


def fill_holes(vertices: Tensor, faces: Tensor, max_perimeter: float = MAX_PERIMETER) -> tuple[Tensor, Tensor]:
    """Fill each hole whose boundary is a simple loop shorter than `max_perimeter` with a fan of triangles.

    New vertices and faces come last; each new face is wound like the face next to it.

    Args:
        vertices: float32 [vertices, 3]. faces: int32 [faces, 3].
    """
    boundary = _boundary_edges(faces.long(), len(vertices))
    if len(boundary) == 0:
        return vertices, faces
    corners, ends = boundary.unique(return_inverse=True)
    loops = _loops(ends.cpu().numpy(), len(corners))
    labels = torch.from_numpy(loops).to(boundary.device)  # per corner; -1 where the boundary is no simple loop
    of_edge = labels[ends[:, 0]]
    count = int(labels.max()) + 1
    lengths = (vertices[boundary[:, 0]] - vertices[boundary[:, 1]]).norm(dim=1)
    perimeters = torch.zeros(count + 1, device=boundary.device).index_add_(0, of_edge + 1, lengths)[1:]
    small = torch.nonzero(perimeters < max_perimeter).flatten()
    number = torch.full((count + 1,), -1, dtype=torch.long, device=boundary.device)
    number[small + 1] = torch.arange(len(small), device=boundary.device)
    edge_hole, corner_hole = number[of_edge + 1], number[labels + 1]
    centres = torch.zeros(len(small), 3, device=boundary.device)
    inside = corner_hole >= 0
    centres.index_add_(0, corner_hole[inside], vertices[corners[inside]])
    centres /= torch.bincount(corner_hole[inside], minlength=len(small))[:, None]
    filled = edge_hole >= 0
    fan = torch.stack((boundary[filled, 1], boundary[filled, 0], len(vertices) + edge_hole[filled]), dim=1)
    return torch.cat((vertices, centres)), torch.cat((faces, fan.to(faces.dtype)))


def _boundary_edges(faces: Tensor, vertices: int) -> Tensor:
    """Return the edges with one face, in that face's direction: int64 [edges, 2]."""
    edges = torch.cat((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    keys = edges.amin(dim=1) * vertices + edges.amax(dim=1)
    _, which, counts = keys.unique(return_inverse=True, return_counts=True)
    return edges[counts[which] == 1]


def _loops(ends: np.ndarray, corners: int) -> np.ndarray:
    """Return the loop of each corner, int64 [corners], or -1 where the boundary branches. ends: [edges, 2]."""
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(corners, corners))
    _, labels = connected_components(graph, directed=False)
    branches = np.bincount(ends.ravel(), minlength=corners) != 2
    simple = ~np.isin(labels, np.unique(labels[branches]))
    loop = np.full(corners, -1, np.int64)
    loop[simple] = np.unique(labels[simple], return_inverse=True)[1]
    return loop


def check_surface(vertices: Tensor, faces: Tensor, attributes: Tensor) -> None:
    """Check a decoded surface (see `worker.engine.Surface`), on the tensors' device.

    Raises:
        OutputInvalid: too few faces, too small or too large, not finite, or of one colour everywhere.
    """
    if len(faces) < MIN_FACES:
        raise OutputInvalid(f"the decoded surface has {len(faces)} faces")
    is_used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    is_used[faces.flatten().long()] = True
    used = vertices[is_used]
    extent = float((used.amax(dim=0) - used.amin(dim=0)).max())
    if not MIN_EXTENT <= extent <= MAX_EXTENT:
        raise OutputInvalid(f"the decoded surface is {extent:.3g} times as large as its grid")
    if not bool(attributes.isfinite().all()):
        raise OutputInvalid("the decoded material has numbers that are not finite")
    if float(attributes[:, :3].std(dim=0).max()) < MIN_COLOUR_DEVIATION:
        raise OutputInvalid("the decoded material has one colour everywhere")
