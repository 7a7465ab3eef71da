"""One block of the flow transformers: self-attention, cross-attention and MLP, modulated by the time.

A step of the sampler needs the velocity with the picture and, while guided, the one without it. The two may go through
the block together, as branches of one tensor; they part only where the picture comes in. Without it, a token attends to
a picture of zeros: all keys are equal and all values are the bias, so what attention gives is a constant, computed once
per model.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from worker.trellis.ops import attend, linear_gelu
from worker.trellis.rope import rotate

EPS = 1e-6  # of all the block's layer norms


class BlockWeights(NamedTuple):
    """The block's tensors, [out, in] as in the checkpoint; norms and RMS gammas (heads, head channels) in float32."""

    qkv: Tensor
    qkv_bias: Tensor
    q_gamma: Tensor
    k_gamma: Tensor
    out: Tensor
    out_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    cross_q: Tensor
    cross_q_bias: Tensor
    cross_q_gamma: Tensor
    cross_out: Tensor
    cross_out_bias: Tensor
    mlp_in: Tensor
    mlp_in_bias: Tensor
    mlp_out: Tensor
    mlp_out_bias: Tensor


class Context(NamedTuple):
    """What the picture is to one block.

    keys, values: [1, picture tokens, heads, head channels]; None where only the velocity without it is asked for.
    without: [channels], what cross-attention adds to every token of the branch without a picture.
    """

    keys: Tensor | None
    values: Tensor | None
    without: Tensor


def block(x: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights, context: Context) -> Tensor:
    """Run one block on x [branches, tokens, channels]: the branch with the picture, the one without, or both in order.

    modulation: [6, channels], shift, scale and gate of self-attention, then of the MLP. cos, sin: see `rope.Phases`.
    """
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(0)
    h = layer_norm(x) * (1 + scale) + shift
    x = x + _self_attention(h, cos, sin, weights) * gate
    x = x + _cross_attention(x, weights, context)
    h = layer_norm(x) * (1 + mlp_scale) + mlp_shift
    h = linear_gelu(h, weights.mlp_in, weights.mlp_in_bias)
    return x + functional.linear(h, weights.mlp_out, weights.mlp_out_bias) * mlp_gate


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Layer norm over the last axis, in float32."""
    return functional.layer_norm(x.float(), x.shape[-1:], weight, bias, EPS).to(x.dtype)


def rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """Scale each head's vector to length sqrt(head channels), then by gamma [heads, head channels]; in float32."""
    return (functional.normalize(x.float(), dim=-1) * gamma * x.shape[-1] ** 0.5).to(x.dtype)


def _self_attention(h: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights) -> Tensor:
    heads = weights.q_gamma.shape[0]
    q, k, v = functional.linear(h, weights.qkv, weights.qkv_bias).unflatten(-1, (3, heads, -1)).unbind(2)
    q = rotate(rms_norm(q, weights.q_gamma), cos, sin)
    k = rotate(rms_norm(k, weights.k_gamma), cos, sin)
    return functional.linear(attend(q, k, v).flatten(2), weights.out, weights.out_bias)


def _cross_attention(x: Tensor, weights: BlockWeights, context: Context) -> Tensor:
    """What the picture adds: [branches, tokens, channels]."""
    if context.keys is None:
        return context.without
    heads = weights.cross_q_gamma.shape[0]
    h = layer_norm(x[:1], weights.norm, weights.norm_bias)
    q = functional.linear(h, weights.cross_q, weights.cross_q_bias).unflatten(-1, (heads, -1))
    seen = attend(rms_norm(q, weights.cross_q_gamma), context.keys, context.values)
    seen = functional.linear(seen.flatten(2), weights.cross_out, weights.cross_out_bias)
    if x.shape[0] == 1:
        return seen
    return torch.cat((seen, context.without.expand_as(seen)))
