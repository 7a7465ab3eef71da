"""What runs on the GPU computes what the plain code computes on the CPU."""

import pytest
import torch

from bench.support import random_weights
from bench.trellis.sampler import surface_cells
from worker.engines.trellis.models.flow_transformer import FlowTransformer

DEVICE = torch.device("cuda")
BLOCKS = 2  # as many as it takes for one to follow another


@pytest.fixture(scope="module")
def on_gpu() -> FlowTransformer:
    """A transformer of real width, a few blocks deep."""
    return random_weights.build_flow(32, 32, DEVICE, blocks=BLOCKS)


@pytest.fixture(scope="module")
def on_cpu(on_gpu: FlowTransformer) -> FlowTransformer:
    """The same one, in float32."""
    args = random_weights.FLOW_ARGS | {"in_channels": 32, "out_channels": 32, "dtype": "float32", "num_blocks": BLOCKS}
    return FlowTransformer.of(args, {name: tensor.cpu() for name, tensor in on_gpu.tensors.items()})


@pytest.mark.parametrize("tokens", [777, 4_096])
@pytest.mark.parametrize("picture_tokens", [1_029])
@pytest.mark.parametrize(("shown", "branches"), [(True, 1), (False, 1), (True, 2)])
def test_velocity_is_the_plain_one(
    on_gpu: FlowTransformer, on_cpu: FlowTransformer, tokens: int, picture_tokens: int, shown: bool, branches: int
) -> None:
    """For any number of tokens, with the image, without it, and both at once; to what bfloat16 rounds."""
    noise, image = torch.randn(tokens, 32), torch.randn(picture_tokens, random_weights.FEATURES)
    cells, velocities = surface_cells(tokens), []
    for model, device in ((on_gpu, DEVICE), (on_cpu, torch.device("cpu"))):
        contexts = model.contexts(image.to(device)) if shown else model.no_contexts()
        at, modulation = model.phases(cells.to(device)), model.modulation(0.7)
        velocities.append(model.velocities(noise.to(device), modulation, at, contexts, branches).cpu())
    assert float((velocities[0] - velocities[1]).norm() / velocities[1].norm()) < 0.01
