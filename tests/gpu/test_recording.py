"""A recorded stage computes what the unrecorded one computes, bit for bit, whatever happens to the memory around it."""

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bench import random_weights
from bench.sampler import DEVICE, STRUCTURE, inputs
from worker.trellis.flow import FlowModel
from worker.trellis.guidance import Guidance
from worker.trellis.recording import RecordedFlow
from worker.trellis.sampler import Flow, Velocity, sample
from worker.trellis.schedule import steps


@pytest.fixture(scope="module")
def model() -> FlowModel:
    """The structure's transformer, a few blocks deep."""
    return random_weights.flow(8, 8, DEVICE, blocks=3)


@pytest.fixture(scope="module")
def recorded(model: FlowModel) -> Iterator[RecordedFlow]:
    """Recorded with a picture of zeros; whatever recording left behind is written over."""
    blank = torch.zeros(1_029, random_weights.FEATURES, device=DEVICE)
    flow = RecordedFlow(model, model.phases(model.grid()), model.contexts(blank))
    gc.collect()
    filled = [
        torch.full((size,), float("nan"), device=DEVICE) for size in (1 << 10, 1 << 18, 1 << 22) for _ in range(50)
    ]
    yield flow
    del filled


def _sampled(model: FlowModel, velocity: Velocity, noise: Tensor) -> Tensor:
    guidance = Guidance(STRUCTURE.strength, STRUCTURE.rescale, 1e-5)
    return sample(model, velocity, noise, steps(6, STRUCTURE.rescale_t, (0.6, 1.0)), guidance)


def test_replays_equal_what_was_recorded(model: FlowModel, recorded: RecordedFlow) -> None:
    """For one picture after the other, and for the first one again."""
    noise, _, picture, _ = inputs(STRUCTURE)
    at, ends = model.phases(model.grid()), []
    for shown in (picture, -picture, picture):
        contexts = model.contexts(shown)
        recorded.show(contexts)
        ends.append(_sampled(model, recorded, noise))
        assert torch.equal(_sampled(model, Flow(model, at, contexts), noise), ends[-1])
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], ends[1])
