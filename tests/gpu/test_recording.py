"""CUDA graphs compute the same bits as direct execution, whatever happens to other memory."""

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bench.support import random_weights
from bench.trellis.sampler import DEVICE, STRUCTURE, draw_inputs
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.sampling.cuda_graphs import GraphReplay, Pool, StructureGraph
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Guidance, Velocity, sample, steps


@pytest.fixture(scope="module")
def model() -> FlowTransformer:
    """The structure's transformer, a few blocks deep."""
    return random_weights.build_flow(8, 8, DEVICE, blocks=3)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Shared by all that is recorded, as in the engine."""
    handle: Pool = torch.cuda.graph_pool_handle()
    return handle


@pytest.fixture(scope="module")
def recorded(model: FlowTransformer, pool: Pool) -> Iterator[StructureGraph]:
    """Recorded with an image of zeros; whatever recording left behind is written over."""
    blank = torch.zeros(1_029, random_weights.FEATURES, device=DEVICE)
    flow = StructureGraph(model, model.phases(model.grid()), model.contexts(blank), pool)
    gc.collect()
    filled = [
        torch.full((size,), float("nan"), device=DEVICE) for size in (1 << 10, 1 << 18, 1 << 22) for _ in range(50)
    ]
    yield flow
    del filled


def _sampled(model: FlowTransformer, velocity: Velocity, noise: Tensor) -> Tensor:
    guidance = Guidance(STRUCTURE.strength, STRUCTURE.rescale, 1e-5)
    return sample(model, velocity, noise, steps(6, STRUCTURE.rescale_t, (0.6, 1.0)), guidance)


def test_replays_equal_what_was_recorded(model: FlowTransformer, recorded: StructureGraph) -> None:
    """For one image after the other, and for the first one again."""
    noise, _, image, _ = draw_inputs(STRUCTURE)
    at, ends = model.phases(model.grid()), []
    for shown in (image, -image, image):
        contexts = model.contexts(shown)
        recorded.set_image(contexts)
        ends.append(_sampled(model, recorded, noise))
        assert torch.equal(_sampled(model, ConditionedFlow(model, at, contexts), noise), ends[-1])
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], ends[1])


def test_stage_captured_while_it_runs_gives_the_same_result(
    model: FlowTransformer, recorded: StructureGraph, pool: Pool
) -> None:
    """One number of tokens after the other, with the grid's graphs replayed in between."""
    noise, cells, image, _ = draw_inputs(STRUCTURE)
    contexts = model.contexts(image)
    recorded.set_image(contexts)
    on_grid = _sampled(model, recorded, noise)
    for tokens in (3_000, 3_777, 1_500, 3_000):
        flow = ConditionedFlow(model, model.phases(cells[:tokens]), contexts)
        assert torch.equal(
            _sampled(model, GraphReplay(flow, pool), noise[:tokens]), _sampled(model, flow, noise[:tokens])
        )
        assert torch.equal(_sampled(model, recorded, noise), on_grid)
