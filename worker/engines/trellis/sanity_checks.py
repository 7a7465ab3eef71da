"""What the sampler's and the decoders' results must hold to before anything is made of them."""

import torch
from torch import Tensor

from shared.errors import OutputInvalid

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


def check_surface(vertices: Tensor, faces: Tensor, attributes: Tensor) -> None:
    """Refuse a decoded surface (see `worker.engine.Surface`) that cannot be an object's; where the tensors are.

    Raises:
        OutputInvalid: too few faces, too small or too large, or without any colour of its own.
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
