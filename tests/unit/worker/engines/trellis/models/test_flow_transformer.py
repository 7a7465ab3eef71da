"""The lean flow transformer computes what its plain restatement computes."""

import pytest
import torch
from torch import Tensor

from tests.unit.worker.engines.trellis import plain_flow, tiny
from worker.engines.trellis.models.flow_transformer import FlowTransformer

TOKENS = 37


def _given(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, 32, (TOKENS, 3), generator=generator, dtype=torch.int32)
    noise, image = torch.randn(TOKENS, 8, generator=generator), torch.randn(11, tiny.FEATURES, generator=generator)
    return noise, coords, image


def _error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("time", [1.0, 0.6, 0.04])
def test_velocity_with_the_image_equals_the_plain_one(time: float) -> None:
    """In float32, to 1e-5."""
    noise, coords, image = _given()
    tensors = tiny.flow_tensors()
    model = FlowTransformer.of(tiny.ARGS, tensors)
    velocity = model.velocities(noise, model.modulation(time), model.phases(coords), model.contexts(image), 1)[0]
    assert _error(velocity, plain_flow.velocity(tensors, noise, time, coords, image)) < 1e-5


def test_velocity_without_the_image_equals_the_plain_one_of_a_image_of_zeros() -> None:
    """In both ways: by itself, and in one batch with the conditional one."""
    noise, coords, image = _given()
    tensors = tiny.flow_tensors()
    model = FlowTransformer.of(tiny.ARGS, tensors)
    expected = plain_flow.velocity(tensors, noise, 0.8, coords, torch.zeros_like(image))
    at, modulation = model.phases(coords), model.modulation(0.8)
    assert _error(model.velocities(noise, modulation, at, model.no_contexts(), 1)[0], expected) < 1e-5
    assert _error(model.velocities(noise, modulation, at, model.contexts(image), 2)[1], expected) < 1e-5


def test_branches_do_not_touch_each_other() -> None:
    """The conditional velocity is the same by itself and in a batch with the unconditional one."""
    noise, coords, image = _given()
    model = FlowTransformer.of(tiny.ARGS, tiny.flow_tensors())
    at, modulation, contexts = model.phases(coords), model.modulation(0.8), model.contexts(image)
    single = model.velocities(noise, modulation, at, contexts, 1)[0]
    assert _error(model.velocities(noise, modulation, at, contexts, 2)[0], single) < 1e-6


def test_coarse_torso_keeps_its_ends_in_float32() -> None:
    """A bfloat16 torso gives float32 velocities, near the exact ones."""
    noise, coords, image = _given()
    tensors = tiny.flow_tensors()
    model = FlowTransformer.of(tiny.ARGS | {"dtype": "bfloat16"}, tensors)
    assert model.dtype == torch.bfloat16
    velocity = model.velocities(noise, model.modulation(0.5), model.phases(coords), model.contexts(image), 1)[0]
    assert velocity.dtype == torch.float32
    assert 1e-4 < _error(velocity, plain_flow.velocity(tensors, noise, 0.5, coords, image)) < 3e-2


def test_another_architecture_is_refused() -> None:
    """Rather than sampled wrongly."""
    with pytest.raises(ValueError, match="pe_mode"):
        FlowTransformer.of(tiny.ARGS | {"pe_mode": "ape"}, tiny.flow_tensors())


def test_missing_tensor_is_named() -> None:
    """A checkpoint that lacks one is refused at load, not at the first job."""
    tensors = tiny.flow_tensors()
    del tensors["blocks.2.norm2.bias"]
    with pytest.raises(KeyError, match=r"blocks\.2\.norm2\.bias"):
        FlowTransformer.of(tiny.ARGS, tensors)
