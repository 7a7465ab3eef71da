"""Blocks of the flow transformers: self-attention, cross-attention and MLP, modulated by time (arXiv:2212.09748).

A step of the sampler needs the conditional velocity (with the image) and, while guided, the unconditional one. Both may
pass the blocks together, as branches of one tensor; they are equal until the image enters for the first time. Without
an image a token attends to zeros: all keys are equal and all values are the bias, so the result of cross-attention is a
constant, computed once per model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.ops import (
    add_context,
    add_modulate,
    add_norm_affine,
    attend,
    linear_gelu,
    norm_heads,
)


@dataclass(frozen=True, slots=True)
class Phases:
    """Cosines and sines of rotary position embeddings: float32 [tokens, head channels / 2]."""

    cos: Tensor
    sin: Tensor


def rotary_phases(coords: Tensor, head_channels: int, freq: tuple[float, float] = (1.0, 10_000.0)) -> Phases:
    """Compute rotary angles of integer coords [tokens, 3] (RoFormer, arXiv:2104.09864): a third of the pairs per axis.

    Pairs that are left over are not rotated.
    """
    pairs = head_channels // 2
    per_axis = pairs // 3
    exponents = torch.arange(per_axis, dtype=torch.float32) / per_axis
    freqs = (freq[0] / freq[1] ** exponents).to(coords.device)
    angles = (coords.float()[:, :, None] * freqs).flatten(1)
    angles = functional.pad(angles, (0, pairs - 3 * per_axis))
    return Phases(angles.cos(), angles.sin())


class BlockWeights(NamedTuple):
    """A block's tensors, [out, in] as in the checkpoint; norms and gammas in float32.

    gammas: of the queries, then of the keys, [2 * heads, head channels]. cross_gammas: of cross-attention's queries.
    """

    qkv: Tensor
    qkv_bias: Tensor
    gammas: Tensor
    out: Tensor
    out_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    cross_q: Tensor
    cross_q_bias: Tensor
    cross_gammas: Tensor
    cross_out: Tensor
    cross_out_bias: Tensor
    mlp_in: Tensor
    mlp_in_bias: Tensor
    mlp_out: Tensor
    mlp_out_bias: Tensor


class Context(NamedTuple):
    """The image's keys and values in one block.

    keys, values: [1, image tokens, heads, head channels]; None for the unconditional velocity. unconditional:
    [channels], what cross-attention adds to every token without an image.
    """

    keys: Tensor | None
    values: Tensor | None
    unconditional: Tensor


Layer = tuple[BlockWeights, Tensor, Context]


def run_blocks(x: Tensor, layers: Iterable[Layer], phases: Phases, branches: int) -> Tensor:
    """Run x [1, tokens, channels] through the blocks: [branches, tokens, channels].

    Args:
        layers: each block's weights, modulation [6, channels] (shift, scale and gate of self-attention, then of the
            MLP) and context.
        branches: 1, conditional or unconditional as the contexts are; or 2, both in this order.
    """
    y = gate = None  # the previous block's MLP output, added by the next kernel
    for weights, modulation, context in layers:
        shift, scale, out_gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(0)
        x, h = add_modulate(x, y, gate, scale, shift)
        y, conditional = _self_attention(h, phases, weights), 0 if context.keys is None else 1
        x, h = add_norm_affine(x, y, out_gate, weights.norm, weights.norm_bias, conditional)
        x, h = add_context(
            x, _cross_attention(h, weights, context), context.unconditional, branches, mlp_scale, mlp_shift
        )
        h = linear_gelu(h, weights.mlp_in, weights.mlp_in_bias)
        y, gate = functional.linear(h, weights.mlp_out, weights.mlp_out_bias), mlp_gate
    return x if y is None or gate is None else x + y * gate


def _self_attention(h: Tensor, phases: Phases, weights: BlockWeights) -> Tensor:
    heads = len(weights.cross_gammas)
    qkv = functional.linear(h, weights.qkv, weights.qkv_bias)
    q, k = norm_heads(qkv, weights.gammas, phases.cos, phases.sin).split(heads, dim=2)
    v = qkv.unflatten(-1, (3, heads, -1))[:, :, 2]
    return functional.linear(attend(q, k, v).flatten(2), weights.out, weights.out_bias)


def _cross_attention(h: Tensor, weights: BlockWeights, context: Context) -> Tensor | None:
    """Return what the image adds to the conditional branch: [1, tokens, channels]; None if there is none."""
    if context.keys is None or context.values is None:
        return None
    q = norm_heads(functional.linear(h, weights.cross_q, weights.cross_q_bias), weights.cross_gammas)
    attended = attend(q, context.keys, context.values).flatten(2)
    return functional.linear(attended, weights.cross_out, weights.cross_out_bias)
