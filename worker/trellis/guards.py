"""What the sampler's and the decoders' results must hold to before anything is made of them."""

import numpy as np
from torch import Tensor

from shared.errors import OutputInvalid
from worker.engine import Surface

MIN_CELLS = 8
MIN_FACES = 100
MIN_EXTENT = 0.02  # of the grid's side, along the longest axis
MAX_EXTENT = 1.5
MIN_COLOUR_DEVIATION = 1e-6  # below which every voxel has one and the same colour: no network paints like that


def is_solid(coords: Tensor) -> bool:
    """Whether cells, int32 [cells, 3], are enough to make an object of, and do not all lie in one plane."""
    if len(coords) < MIN_CELLS:
        return False
    return bool((coords.amax(dim=0) > coords.amin(dim=0)).all())


def check_finite(latents: Tensor, stage: str) -> None:
    """Refuse numbers that are none.

    Raises:
        OutputInvalid: some are not finite.
    """
    if not bool(latents.isfinite().all()):
        raise OutputInvalid(f"sampling the {stage} ended in numbers that are not finite")


def check_surface(surface: Surface) -> None:
    """Refuse a surface that cannot be an object's.

    Raises:
        OutputInvalid: too few faces, too small or too large, or without any colour of its own.
    """
    if len(surface.faces) < MIN_FACES:
        raise OutputInvalid(f"the decoded surface has {len(surface.faces)} faces")
    is_used = np.zeros(len(surface.vertices), bool)
    is_used[surface.faces.ravel()] = True
    extent = float(np.ptp(surface.vertices[is_used], axis=0).max())
    if not MIN_EXTENT <= extent <= MAX_EXTENT:
        raise OutputInvalid(f"the decoded surface is {extent:.3g} times as large as its grid")
    if not np.isfinite(surface.attributes).all():
        raise OutputInvalid("the decoded material has numbers that are not finite")
    if float(surface.attributes[:, :3].std(axis=0).max()) < MIN_COLOUR_DEVIATION:
        raise OutputInvalid("the decoded material has one colour everywhere")
