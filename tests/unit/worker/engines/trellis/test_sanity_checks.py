"""What counts as a structure, and as a surface."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from shared.errors import OutputInvalid
from worker.engines.trellis import sanity_checks


class Decoded(NamedTuple):
    """What decoding gives."""

    vertices: Tensor
    faces: Tensor
    attributes: Tensor


def _uniform(low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(shape[0])) * (high - low) + low


SOUND = Decoded(
    vertices=_uniform(-0.4, 0.4, 300, 3),
    faces=torch.randint(0, 300, (600, 3), dtype=torch.int32, generator=torch.Generator().manual_seed(0)),
    attributes=_uniform(0, 1, 50, 6),
)


def test_sound_surface_passes() -> None:
    """Nothing to say."""
    sanity_checks.check_surface(*SOUND)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (SOUND._replace(faces=SOUND.faces[:99]), "99 faces"),
        (SOUND._replace(vertices=SOUND.vertices * 0.01), "as large as its grid"),
        (SOUND._replace(vertices=SOUND.vertices * 9), "as large as its grid"),
        (SOUND._replace(vertices=SOUND.vertices * float("nan")), "as large as its grid"),
        (SOUND._replace(attributes=SOUND.attributes * float("inf")), "not finite"),
        (SOUND._replace(attributes=torch.full_like(SOUND.attributes, 0.5)), "one colour"),
    ],
)
def test_surface_that_is_no_object_is_refused(broken: Decoded, says: str) -> None:
    """Before anything is made of it."""
    with pytest.raises(OutputInvalid, match=says):
        sanity_checks.check_surface(*broken)


def test_vertices_that_no_face_uses_do_not_count() -> None:
    """Decoding leaves many."""
    far = SOUND._replace(vertices=torch.cat((SOUND.vertices, torch.full((1, 3), 1e9))))
    sanity_checks.check_surface(*far)


def test_structure_must_fill_space() -> None:
    """Too few cells, or all in one plane, are none; a cube is one."""
    cube = torch.cartesian_prod(*[torch.arange(3)] * 3).int()
    assert sanity_checks.is_solid(cube)
    assert not sanity_checks.is_solid(cube[:7])
    assert not sanity_checks.is_solid(cube[cube[:, 1] == 1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_end_the_sampling(value: float) -> None:
    """With the stage named."""
    latents = torch.zeros(4, 3)
    sanity_checks.check_finite(latents, "shape")
    latents[2, 1] = value
    with pytest.raises(OutputInvalid, match="the shape ended"):
        sanity_checks.check_finite(latents, "shape")
