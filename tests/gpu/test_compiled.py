"""What is compiled computes what the plain code computes, on the GPU, and is compiled once."""

from collections.abc import Iterator

import pytest
import torch

from bench import random_weights
from bench.sampler import surface_cells
from worker.trellis.compiling import compile_block
from worker.trellis.flow import FlowModel

DEVICE = torch.device("cuda")


@pytest.fixture(scope="module")
def flows() -> Iterator[tuple[FlowModel, FlowModel]]:
    """One transformer, plain and compiled; compiling again is an error from here on."""
    plain = random_weights.flow(32, 32, DEVICE)
    compiled = plain.with_block(compile_block(plain, 1029))
    before = torch._dynamo.config.error_on_recompile
    torch._dynamo.config.error_on_recompile = True
    yield plain, compiled
    torch._dynamo.config.error_on_recompile = before


@pytest.mark.parametrize("tokens", [1_500, 4_096, 9_001])
@pytest.mark.parametrize("picture_tokens", [1_029, 4_101])
def test_compiled_block_is_the_plain_one(flows: tuple[FlowModel, FlowModel], tokens: int, picture_tokens: int) -> None:
    """For any number of tokens and either picture, with it, without it, and both at once."""
    plain, compiled = flows
    noise = torch.randn(tokens, 32, device=DEVICE)
    contexts = plain.contexts(torch.randn(picture_tokens, random_weights.FEATURES, device=DEVICE))
    at, modulation = plain.phases(surface_cells(tokens).to(DEVICE)), plain.modulation(0.7)
    for shown, branches in ((contexts, 1), (plain.no_contexts(), 1), (contexts, 2)):
        expected = plain.velocities(noise, modulation, at, shown, branches)
        actual = compiled.velocities(noise, modulation, at, shown, branches)
        assert float((actual - expected).norm() / expected.norm()) < 0.03
