"""From latents to a Surface."""

from collections.abc import Callable

import torch
from torch import Tensor

from shared.domain.job import Stage
from shared.errors import EmptySurface
from worker.engine import Progress, Surface
from worker.engines.trellis.decoding.dual_grid import mesh_dual_grid
from worker.engines.trellis.decoding.hole_filling import fill_holes
from worker.engines.trellis.models.model_set import PipelineModels
from worker.engines.trellis.sampling.latents import Latents
from worker.engines.trellis.sanity_checks import check_surface

SHAPE_SHARE = 0.6  # of decoding's time, roughly


def decode_surface(models: PipelineModels, latents: Latents, progress: Progress) -> Surface:
    """Decode shape, then texture on the voxels that the shape has.

    Raises:
        EmptySurface: the shape has no face.
        OutputInvalid: see `check_surface`.
    """

    def on_level(begins: float, ends: float) -> Callable[[float], None]:
        return lambda done: progress(Stage.DECODE, begins + (ends - begins) * done)

    shape = models.shape_decoder
    features, ladder = shape.decode(latents.shape, latents.coords, on_level(0, SHAPE_SHARE))
    vertices, faces = mesh_dual_grid(features, ladder.finest, latents.resolution, shape.voxel_margin)
    if len(faces) == 0:
        raise EmptySurface("the sampled shape has no surface")
    vertices, faces = fill_holes(vertices, faces)
    material = models.texture_decoder.decode_on_levels(latents.texture, ladder, on_level(SHAPE_SHARE, 0.95))
    material = (material * 0.5 + 0.5).clamp(0, 1)
    check_surface(vertices, faces, material)
    coords = _y_up_cells(ladder.finest.coords, latents.resolution)
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
    """From TRELLIS.2's axes (Z up, the front faces -Y) to ours (Y up, the front faces +Z): a quarter turn about X."""
    x, y, z = points.unbind(1)
    return torch.stack((x, z, -y), dim=1)


def _y_up_cells(cells: Tensor, resolution: int) -> Tensor:
    """The same turn, for cells of a grid."""
    x, y, z = cells.unbind(1)
    return torch.stack((x, z, resolution - 1 - y), dim=1)
