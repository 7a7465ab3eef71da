"""Checkpoints of the published structure at tiny widths, with random weights."""

from typing import Any

import torch
from torch import Tensor

HEADS, WIDTH, CHANNELS, HIDDEN, FEATURES, BLOCKS = 3, 16, 48, 256, 20, 3
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
    made = {}
    for name, shape in shapes.items():
        inputs = torch.Size(shape[1:]).numel() if len(shape) > 1 else 4
        made[name] = torch.randn(shape, generator=generator) * inputs**-0.5
    return made


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
