"""A flow transformer on plain tensors: the velocity of noisy latents, with and without the picture.

Both of TRELLIS.2's architectures are this one: the sparse structure's tokens are simply the cells of a dense grid.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.trellis.block import BlockWeights, Context, block, rms_norm
from worker.trellis.checkpoint import in_precision
from worker.trellis.rope import Phases, phases

TIME_CHANNELS = 256
Block = Callable[..., Tensor]

# The names of a block's tensors in the checkpoint, after "blocks.<i>.", in the order of BlockWeights.
_BLOCK_NAMES = (
    "self_attn.to_qkv.weight",
    "self_attn.to_qkv.bias",
    "self_attn.q_rms_norm.gamma",
    "self_attn.k_rms_norm.gamma",
    "self_attn.to_out.weight",
    "self_attn.to_out.bias",
    "norm2.weight",
    "norm2.bias",
    "cross_attn.to_q.weight",
    "cross_attn.to_q.bias",
    "cross_attn.q_rms_norm.gamma",
    "cross_attn.to_out.weight",
    "cross_attn.to_out.bias",
    "mlp.mlp.0.weight",
    "mlp.mlp.0.bias",
    "mlp.mlp.2.weight",
    "mlp.mlp.2.bias",
)
# How arguments may spell the torso's dtype.
_DTYPES = {
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float16", "fp16", "f16"), torch.float16),
    **dict.fromkeys(("float32", "fp32", "f32"), torch.float32),
}
_ARCHITECTURE = {"pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True}


@dataclass(frozen=True, slots=True)
class FlowModel:
    """One flow transformer. Its torso computes in the dtype of its blocks, its ends in float32."""

    tensors: Mapping[str, Tensor]
    blocks: Sequence[BlockWeights]
    modulations: Tensor  # float32 [blocks, 6 * channels]
    without: Sequence[Tensor]  # per block, see Context
    in_channels: int
    out_channels: int
    resolution: int
    rope_freq: tuple[float, float]
    run_block: Block

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor], run_block: Block = block) -> "FlowModel":
        """Take over the weights of a `SparseStructureFlowModel` or an `SLatFlowModel`.

        args: the model's own arguments, from the JSON beside its weights. tensors: by their names in the checkpoint.

        Raises:
            ValueError: the arguments ask for another architecture than the published one.
            KeyError: a tensor is missing.
        """
        if unlike := {name: args.get(name) for name, value in _ARCHITECTURE.items() if args.get(name) != value}:
            raise ValueError(f"no flow transformer of this kind is known here: {unlike}")
        tensors = in_precision(tensors, _DTYPES[args.get("dtype", "float32")])
        count = args["num_blocks"]
        blocks = [BlockWeights(*(tensors[f"blocks.{i}.{name}"] for name in _BLOCK_NAMES)) for i in range(count)]
        return cls(
            tensors=tensors,
            blocks=blocks,
            modulations=torch.stack([tensors[f"blocks.{i}.modulation"].float() for i in range(count)]),
            without=[_without(tensors, i, weights) for i, weights in enumerate(blocks)],
            in_channels=args["in_channels"],
            out_channels=args["out_channels"],
            resolution=args["resolution"],
            rope_freq=tuple(args.get("rope_freq", (1.0, 10_000.0))),
            run_block=run_block,
        )

    def with_block(self, run_block: Block) -> "FlowModel":
        """The same model on another implementation of the block: a compiled one."""
        return replace(self, run_block=run_block)

    @property
    def dtype(self) -> torch.dtype:
        """What the torso computes in."""
        return self.blocks[0].qkv.dtype

    @property
    def head_channels(self) -> int:
        """Channels of one attention head."""
        return int(self.blocks[0].q_gamma.shape[1])

    def phases(self, coords: Tensor) -> Phases:
        """The tokens' rotary phases, for coords [tokens, 3]."""
        return phases(coords, self.head_channels, self.rope_freq)

    def contexts(self, picture: Tensor) -> list[Context]:
        """Every block's keys and values of the picture's features, float32 [picture tokens, features]."""
        features = picture.to(self.dtype)[None]
        return [self._context(i, features) for i in range(len(self.blocks))]

    def no_contexts(self) -> list[Context]:
        """What every block has where no picture is shown."""
        return [Context(None, None, without) for without in self.without]

    def modulation(self, time: float) -> Tensor:
        """Every block's modulation at `time` (0-1): [blocks, 6, channels]."""
        sines = _sines(torch.tensor([1000 * time], dtype=torch.float32, device=self.modulations.device))
        hidden = functional.silu(self._linear("t_embedder.mlp.0", sines))
        hidden = functional.silu(self._linear("t_embedder.mlp.2", hidden))
        shared = self._linear("adaLN_modulation.1", hidden).to(self.dtype)
        return (self.modulations + shared).to(self.dtype).unflatten(-1, (6, -1))

    def velocities(
        self, x: Tensor, modulation: Tensor, at: Phases, contexts: Sequence[Context], branches: int
    ) -> Tensor:
        """The velocity of x, float32 [tokens, in_channels]: float32 [branches, tokens, out_channels].

        branches: 1, or 2 for the velocity with the picture and the one without it, at once.
        """
        h = self._linear("input_layer", x).to(self.dtype).repeat(branches, 1, 1)
        for weights, shifts, context in zip(self.blocks, modulation.unbind(0), contexts, strict=True):
            h = self.run_block(h, shifts, at.cos, at.sin, weights, context)
        h = functional.layer_norm(h.to(x.dtype), h.shape[-1:])
        return self._linear("out_layer", h)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _context(self, i: int, features: Tensor) -> Context:
        gamma = self.tensors[f"blocks.{i}.cross_attn.k_rms_norm.gamma"]
        keys, values = self._linear(f"blocks.{i}.cross_attn.to_kv", features).unflatten(-1, (2, *gamma.shape)).unbind(2)
        return Context(rms_norm(keys, gamma), values.contiguous(), self.without[i])


def _sines(time: Tensor) -> Tensor:
    """Sinusoidal embedding of time [n] (in thousandths): [n, 256]."""
    half = TIME_CHANNELS // 2
    steps = torch.arange(half, dtype=torch.float32) / half
    freqs = torch.exp(-math.log(10_000) * steps).to(time.device)
    angles = time[:, None] * freqs
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def _without(tensors: Mapping[str, Tensor], i: int, weights: BlockWeights) -> Tensor:
    """What cross-attention to zeros adds: all keys are alike, so it returns the values' bias."""
    values = tensors[f"blocks.{i}.cross_attn.to_kv.bias"].chunk(2)[1]
    return functional.linear(values, weights.cross_out, weights.cross_out_bias)
