"""Checks of sampled structures and latents."""

import pytest
import torch

from shared.errors import OutputInvalid
from worker.engines.trellis.sampling.latents import check_finite, is_solid


def test_structure_must_fill_space() -> None:
    """Too few cells, or all in one plane, are no structure; a cube is one."""
    cube = torch.cartesian_prod(*[torch.arange(3)] * 3).int()
    assert is_solid(cube)
    assert not is_solid(cube[:7])
    assert not is_solid(cube[cube[:, 1] == 1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_rejected(value: float) -> None:
    """The error names the stage."""
    latents = torch.zeros(4, 3)
    check_finite(latents, "shape")
    latents[2, 1] = value
    with pytest.raises(OutputInvalid, match="the shape ended"):
        check_finite(latents, "shape")
