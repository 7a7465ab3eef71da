"""A flow transformer on plain tensors: the velocity of noisy latents, with and without the image.

It serves both of TRELLIS.2's architectures: the sparse structure's tokens are the cells of a dense grid.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.checkpoint import in_precision
from worker.engines.trellis.models.ops import norm_heads
from worker.engines.trellis.models.transformer_block import BlockWeights, Context, Phases, rotary_phases, run_blocks

TIME_CHANNELS = 256

# Spellings of the torso's dtype in a checkpoint's arguments.
_DTYPES = {
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float16", "fp16", "f16"), torch.float16),
    **dict.fromkeys(("float32", "fp32", "f32"), torch.float32),
}
_ARCHITECTURE = {"pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True}


@dataclass(frozen=True, slots=True)
class FlowTransformer:
    """One flow transformer. Its torso computes in the dtype of its blocks; its first and last layers in float32."""

    tensors: Mapping[str, Tensor]
    blocks: Sequence[BlockWeights]
    modulations: Tensor  # float32 [blocks, 6 * channels]
    unconditional: Sequence[Tensor]  # per block, see Context
    in_channels: int
    out_channels: int
    resolution: int
    rope_freq: tuple[float, float]
    time_freqs: Tensor  # float32 [128], of the time's sinusoidal embedding

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "FlowTransformer":
        """Build the model from the weights of a `SparseStructureFlowModel` or an `SLatFlowModel`.

        Args:
            args: the model's arguments, from the JSON file of its checkpoint. tensors: by their names there.

        Raises:
            ValueError: the arguments describe another architecture than the published one.
            KeyError: a tensor is missing.
        """
        if unsupported := {name: args.get(name) for name, value in _ARCHITECTURE.items() if args.get(name) != value}:
            raise ValueError(f"unsupported flow transformer: {unsupported}")
        tensors = in_precision(tensors, _DTYPES[args.get("dtype", "float32")])
        count = args["num_blocks"]
        blocks = [_block(tensors, f"blocks.{i}") for i in range(count)]
        return cls(
            tensors=tensors,
            blocks=blocks,
            modulations=torch.stack([tensors[f"blocks.{i}.modulation"].float() for i in range(count)]),
            unconditional=[_unconditional(tensors, i, weights) for i, weights in enumerate(blocks)],
            in_channels=args["in_channels"],
            out_channels=args["out_channels"],
            resolution=args["resolution"],
            rope_freq=tuple(args.get("rope_freq", (1.0, 10_000.0))),
            time_freqs=_time_freqs().to(blocks[0].qkv.device),
        )

    @property
    def dtype(self) -> torch.dtype:
        """The torso's dtype."""
        return self.blocks[0].qkv.dtype

    @property
    def head_channels(self) -> int:
        """Channels of one attention head."""
        return int(self.blocks[0].gammas.shape[1])

    def grid(self) -> Tensor:
        """List the cells of a dense grid of the model's resolution, int64 [cells, 3], in lexicographic order."""
        return torch.cartesian_prod(*[torch.arange(self.resolution, device=self.modulations.device)] * 3)

    def phases(self, coords: Tensor) -> Phases:
        """Compute the tokens' rotary phases, for coords [tokens, 3]."""
        return rotary_phases(coords, self.head_channels, self.rope_freq)

    def contexts(self, image_features: Tensor) -> list[Context]:
        """Compute every block's keys and values of the image's features, float32 [image tokens, features]."""
        features = image_features.to(self.dtype)[None]
        return [self._context(i, features) for i in range(len(self.blocks))]

    def no_contexts(self) -> list[Context]:
        """Return every block's context without an image."""
        return [Context(None, None, constant) for constant in self.unconditional]

    def modulation(self, time: float) -> Tensor:
        """Compute every block's modulation at `time` (0-1): [blocks, 6, channels]."""
        # No copy from the host: it would wait until the GPU has finished all queued work.
        angles = torch.full((1, 1), 1000 * time, device=self.modulations.device) * self.time_freqs
        sines = torch.cat((angles.cos(), angles.sin()), dim=-1)
        hidden = functional.silu(self._linear("t_embedder.mlp.0", sines))
        hidden = functional.silu(self._linear("t_embedder.mlp.2", hidden))
        shared = self._linear("adaLN_modulation.1", hidden).to(self.dtype)
        return (self.modulations + shared).to(self.dtype).unflatten(-1, (6, -1))

    def velocities(
        self, x: Tensor, modulation: Tensor, phases: Phases, contexts: Sequence[Context], branches: int
    ) -> Tensor:
        """Compute the velocity of x, float32 [tokens, in_channels]: float32 [branches, tokens, out_channels].

        Args:
            branches: 1, or 2 for the conditional and the unconditional velocity at once.
        """
        layers = zip(self.blocks, modulation.unbind(0), contexts, strict=True)
        h = run_blocks(self._linear("input_layer", x).to(self.dtype)[None], layers, phases, branches)
        h = functional.layer_norm(h.to(x.dtype), h.shape[-1:])
        return self._linear("out_layer", h)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _context(self, i: int, features: Tensor) -> Context:
        gammas = self.tensors[f"blocks.{i}.cross_attn.k_rms_norm.gamma"]
        keys_values = self._linear(f"blocks.{i}.cross_attn.to_kv", features)
        values = keys_values.unflatten(-1, (2, *gammas.shape))[:, :, 1].contiguous()
        return Context(norm_heads(keys_values, gammas), values, self.unconditional[i])


def _time_freqs() -> Tensor:
    """Return the frequencies of the sinusoidal embedding of times in thousandths: float32 [128]."""
    half = TIME_CHANNELS // 2
    return torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)


def _block(tensors: Mapping[str, Tensor], name: str) -> BlockWeights:
    """Collect the tensors of one block. The checkpoint has separate gammas for queries and keys."""

    def layer(part: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"]

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


def _unconditional(tensors: Mapping[str, Tensor], i: int, weights: BlockWeights) -> Tensor:
    """Return what cross-attention to zeros adds: all keys are equal, so it returns the values' bias."""
    values = tensors[f"blocks.{i}.cross_attn.to_kv.bias"].chunk(2)[1]
    return functional.linear(values, weights.cross_out, weights.cross_out_bias)
