"""A flow transformer on plain tensors: the velocity of noisy latents, with and without the picture.

Both of TRELLIS.2's architectures are this one: the sparse structure's tokens are simply the cells of a dense grid.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.checkpoint import in_precision
from worker.engines.trellis.models.ops import norm_heads
from worker.engines.trellis.models.rope import Phases, phases
from worker.engines.trellis.models.transformer_block import BlockWeights, Context, run_blocks

TIME_CHANNELS = 256

# How arguments may spell the torso's dtype.
_DTYPES = {
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float16", "fp16", "f16"), torch.float16),
    **dict.fromkeys(("float32", "fp32", "f32"), torch.float32),
}
_ARCHITECTURE = {"pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True}


@dataclass(frozen=True, slots=True)
class FlowTransformer:
    """One flow transformer. Its torso computes in the dtype of its blocks, its ends in float32."""

    tensors: Mapping[str, Tensor]
    blocks: Sequence[BlockWeights]
    modulations: Tensor  # float32 [blocks, 6 * channels]
    without: Sequence[Tensor]  # per block, see Context
    in_channels: int
    out_channels: int
    resolution: int
    rope_freq: tuple[float, float]
    time_freqs: Tensor  # float32 [128], of the time's sinusoidal embedding

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "FlowTransformer":
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
        blocks = [_block(tensors, f"blocks.{i}") for i in range(count)]
        return cls(
            tensors=tensors,
            blocks=blocks,
            modulations=torch.stack([tensors[f"blocks.{i}.modulation"].float() for i in range(count)]),
            without=[_without(tensors, i, weights) for i, weights in enumerate(blocks)],
            in_channels=args["in_channels"],
            out_channels=args["out_channels"],
            resolution=args["resolution"],
            rope_freq=tuple(args.get("rope_freq", (1.0, 10_000.0))),
            time_freqs=_time_freqs().to(blocks[0].qkv.device),
        )

    @property
    def dtype(self) -> torch.dtype:
        """What the torso computes in."""
        return self.blocks[0].qkv.dtype

    @property
    def head_channels(self) -> int:
        """Channels of one attention head."""
        return int(self.blocks[0].gammas.shape[1])

    def grid(self) -> Tensor:
        """The cells of a dense grid of the model's resolution, int64 [cells, 3], in lexicographic order."""
        return torch.cartesian_prod(*[torch.arange(self.resolution, device=self.modulations.device)] * 3)

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
        # Nothing here is copied from the host: that would make it wait for all that the GPU still has to do.
        angles = torch.full((1, 1), 1000 * time, device=self.modulations.device) * self.time_freqs
        sines = torch.cat((angles.cos(), angles.sin()), dim=-1)
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
        layers = zip(self.blocks, modulation.unbind(0), contexts, strict=True)
        h = run_blocks(self._linear("input_layer", x).to(self.dtype)[None], layers, at, branches)
        h = functional.layer_norm(h.to(x.dtype), h.shape[-1:])
        return self._linear("out_layer", h)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _context(self, i: int, features: Tensor) -> Context:
        gammas = self.tensors[f"blocks.{i}.cross_attn.k_rms_norm.gamma"]
        keys_values = self._linear(f"blocks.{i}.cross_attn.to_kv", features)
        values = keys_values.unflatten(-1, (2, *gammas.shape))[:, :, 1].contiguous()
        return Context(norm_heads(keys_values, gammas), values, self.without[i])


def _time_freqs() -> Tensor:
    """Of the sinusoidal embedding of times in thousandths: float32 [128]."""
    half = TIME_CHANNELS // 2
    return torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)


def _block(tensors: Mapping[str, Tensor], name: str) -> BlockWeights:
    """The block of this name. The checkpoint keeps the gammas of queries and keys apart."""

    def layer(of: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{name}.{of}.weight"], tensors[f"{name}.{of}.bias"]

    return BlockWeights(
        *layer("self_attn.to_qkv"),
        torch.cat([tensors[f"{name}.self_attn.{part}_rms_norm.gamma"] for part in ("q", "k")]),
        *layer("self_attn.to_out"),
        *layer("norm2"),
        *layer("cross_attn.to_q"),
        tensors[f"{name}.cross_attn.q_rms_norm.gamma"],
        *layer("cross_attn.to_out"),
        *layer("mlp.mlp.0"),
        *layer("mlp.mlp.2"),
    )


def _without(tensors: Mapping[str, Tensor], i: int, weights: BlockWeights) -> Tensor:
    """What cross-attention to zeros adds: all keys are alike, so it returns the values' bias."""
    values = tensors[f"blocks.{i}.cross_attn.to_kv.bias"].chunk(2)[1]
    return functional.linear(values, weights.cross_out, weights.cross_out_bias)
