"""Checkpoints of the published structure at tiny widths, with random weights."""

from typing import Any

import torch
from torch import Tensor

HEADS, WIDTH, CHANNELS, HIDDEN, FEATURES, BLOCKS = 3, 16, 48, 256, 16, 3
ARGS: dict[str, Any] = {
    "resolution": 4,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": CHANNELS,
    "cond_channels": FEATURES,
    "num_blocks": BLOCKS,
    "num_heads": HEADS,
    "mlp_ratio": 5.3334,
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
    "dtype": "float32",
}


def flow_tensors(*, in_channels: int = 8, out_channels: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a flow transformer."""
    shapes: dict[str, tuple[int, ...]] = {
        **_linear("t_embedder.mlp.0", 256, CHANNELS),
        **_linear("t_embedder.mlp.2", CHANNELS, CHANNELS),
        **_linear("adaLN_modulation.1", CHANNELS, 6 * CHANNELS),
        **_linear("input_layer", in_channels, CHANNELS),
        **_linear("out_layer", CHANNELS, out_channels),
    }
    for i in range(BLOCKS):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in _block().items()}
    return random_tensors(shapes, seed)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Normal tensors, matrices scaled so that a layer keeps its input's size."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        inputs = torch.Size(shape[1:]).numel() if len(shape) > 1 else 4
        tensors[name] = torch.randn(shape, generator=generator) * inputs**-0.5
    return tensors


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _block() -> dict[str, tuple[int, ...]]:
    gamma = (HEADS, WIDTH)
    return {
        "modulation": (6 * CHANNELS,),
        "norm2.weight": (CHANNELS,),
        "norm2.bias": (CHANNELS,),
        "self_attn.q_rms_norm.gamma": gamma,
        "self_attn.k_rms_norm.gamma": gamma,
        "cross_attn.q_rms_norm.gamma": gamma,
        "cross_attn.k_rms_norm.gamma": gamma,
        **_linear("self_attn.to_qkv", CHANNELS, 3 * CHANNELS),
        **_linear("self_attn.to_out", CHANNELS, CHANNELS),
        **_linear("cross_attn.to_q", CHANNELS, CHANNELS),
        **_linear("cross_attn.to_kv", FEATURES, 2 * CHANNELS),
        **_linear("cross_attn.to_out", CHANNELS, CHANNELS),
        **_linear("mlp.mlp.0", CHANNELS, HIDDEN),
        **_linear("mlp.mlp.2", HIDDEN, CHANNELS),
    }


WIDTHS = (64, 64, 32, 16, 8)  # of a decoder's five levels
DECODER_ARGS: dict[str, Any] = {
    "model_channels": list(WIDTHS),
    "latent_channels": 8,
    "num_blocks": [1, 1, 1, 1, 0],
    "block_type": ["SparseConvNeXtBlock3d"] * 5,
    "up_block_type": ["SparseResBlockC2S3d"] * 4,
    "block_args": [{}] * 5,
}
STRUCTURE_ARGS: dict[str, Any] = {
    "out_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 1,
    "num_res_blocks_middle": 1,
    "channels": [8, 8, 8],
    "norm_type": "layer",
}


def decoder_tensors(out_channels: int, *, splits: bool, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a sparse decoder. splits: whether it finds the voxels itself."""
    shapes = {**_linear("from_latent", 8, WIDTHS[0]), **_linear("output_layer", WIDTHS[-1], out_channels)}
    for i, width in enumerate(WIDTHS[:-1]):
        shapes |= {
            **_convolution(f"blocks.{i}.0.conv", width, width),
            **_norm(f"blocks.{i}.0.norm", width),
            **_linear(f"blocks.{i}.0.mlp.0", width, 4 * width),
            **_linear(f"blocks.{i}.0.mlp.2", 4 * width, width),
            **_norm(f"blocks.{i}.1.norm1", width),
            **_convolution(f"blocks.{i}.1.conv1", width, 8 * WIDTHS[i + 1]),
            **_convolution(f"blocks.{i}.1.conv2", WIDTHS[i + 1], WIDTHS[i + 1]),
        }
        if splits:
            shapes |= _linear(f"blocks.{i}.1.to_subdiv", width, 8)
    return random_tensors(shapes, seed)


def structure_tensors(seed: int = 0, *, bias: float = -0.1) -> dict[str, Tensor]:
    """The state dict of a structure decoder. bias: the lower, the fewer cells are occupied."""
    shapes: dict[str, tuple[int, ...]] = {"input_layer.weight": (8, 8, 3, 3, 3), "input_layer.bias": (8,)}
    for name in ("middle_block.0", *(f"blocks.{i}" for i in range(5) if i not in (1, 3))):
        for part in ("1", "2"):
            shapes |= _norm(f"{name}.norm{part}", 8)
            shapes |= {f"{name}.conv{part}.weight": (8, 8, 3, 3, 3), f"{name}.conv{part}.bias": (8,)}
    for i in (1, 3):
        shapes |= {f"blocks.{i}.conv.weight": (64, 8, 3, 3, 3), f"blocks.{i}.conv.bias": (64,)}
    shapes |= {**_norm("out_layer.0", 8), "out_layer.2.weight": (1, 8, 3, 3, 3), "out_layer.2.bias": (1,)}
    return random_tensors(shapes, seed) | {"out_layer.2.bias": torch.tensor([bias])}


def _convolution(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, 3, 3, 3, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
