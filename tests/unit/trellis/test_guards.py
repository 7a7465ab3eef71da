"""What counts as a structure, and as a surface."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.errors import OutputInvalid
from worker.engine import Surface
from worker.trellis import guards

RANDOM = np.random.default_rng(0)
SOUND = Surface(
    vertices=RANDOM.uniform(-0.4, 0.4, (300, 3)).astype(np.float32),
    faces=RANDOM.integers(0, 300, (600, 3), dtype=np.int32),
    coords=RANDOM.integers(0, 64, (50, 3), dtype=np.int32),
    attributes=RANDOM.uniform(0, 1, (50, 6)).astype(np.float32),
    resolution=64,
)


def test_sound_surface_passes() -> None:
    """Nothing to say."""
    guards.check_surface(SOUND)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (replace(SOUND, faces=SOUND.faces[:99]), "99 faces"),
        (replace(SOUND, vertices=SOUND.vertices * np.float32(0.01)), "as large as its grid"),
        (replace(SOUND, vertices=SOUND.vertices * np.float32(9)), "as large as its grid"),
        (replace(SOUND, vertices=SOUND.vertices * np.float32(np.nan)), "as large as its grid"),
        (replace(SOUND, attributes=SOUND.attributes * np.float32(np.inf)), "not finite"),
        (replace(SOUND, attributes=np.full_like(SOUND.attributes, 0.5)), "one colour"),
    ],
)
def test_surface_that_is_no_object_is_refused(broken: Surface, says: str) -> None:
    """Before anything is made of it."""
    with pytest.raises(OutputInvalid, match=says):
        guards.check_surface(broken)


def test_vertices_that_no_face_uses_do_not_count() -> None:
    """Decoding leaves many."""
    far = replace(SOUND, vertices=np.vstack([SOUND.vertices, [[1e9, 0, 0]]]).astype(np.float32))
    guards.check_surface(far)


def test_structure_must_fill_space() -> None:
    """Too few cells, or all in one plane, are none; a cube is one."""
    cube = torch.cartesian_prod(*[torch.arange(3)] * 3).int()
    assert guards.is_solid(cube)
    assert not guards.is_solid(cube[:7])
    assert not guards.is_solid(cube[cube[:, 1] == 1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_end_the_sampling(value: float) -> None:
    """With the stage named."""
    latents = torch.zeros(4, 3)
    guards.check_finite(latents, "shape")
    latents[2, 1] = value
    with pytest.raises(OutputInvalid, match="the shape ended"):
        guards.check_finite(latents, "shape")
