"""The blocks of the flow transformers: self-attention, cross-attention and MLP, modulated by the time.

A step of the sampler needs the velocity with the picture and, while guided, the one without it. The two may go through
the blocks together, as branches of one tensor; they part only where the picture comes in for the first time. Without
it, a token attends to a picture of zeros: all keys are equal and all values are the bias, so what attention gives is a
constant, computed once per model.
"""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.ops import add_modulate, add_query, add_seen, attend, linear_gelu, norm_heads
from worker.engines.trellis.models.rope import Phases


class BlockWeights(NamedTuple):
    """The block's tensors, [out, in] as in the checkpoint; norms and gammas in float32.

    gammas: those of the queries, then of the keys, [2 * heads, head channels]; cross_gammas: of the queries that look
    at the picture.
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
    """What the picture is to one block.

    keys, values: [1, picture tokens, heads, head channels]; None where only the velocity without it is asked for.
    without: [channels], what cross-attention adds to every token of the branch without a picture.
    """

    keys: Tensor | None
    values: Tensor | None
    without: Tensor


Layer = tuple[BlockWeights, Tensor, Context]


def run_blocks(x: Tensor, layers: Iterable[Layer], at: Phases, branches: int) -> Tensor:
    """Run x [1, tokens, channels] through the blocks: [branches, tokens, channels].

    branches: 1, the one with the picture or the one without it, as the contexts are; or 2, both in this order. layers:
    weights, modulation [6, channels] (shift, scale and gate of self-attention, then of the MLP), and context of each.
    """
    y = gate = None  # of the block before: what its MLP adds
    for weights, modulation, context in layers:
        shift, scale, out_gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(0)
        x, h = add_modulate(x, y, gate, scale, shift)
        y, looking = _self_attention(h, at, weights), 0 if context.keys is None else 1
        x, h = add_query(x, y, out_gate, weights.norm, weights.norm_bias, looking)
        x, h = add_seen(x, _cross_attention(h, weights, context), context.without, branches, mlp_scale, mlp_shift)
        h = linear_gelu(h, weights.mlp_in, weights.mlp_in_bias)
        y, gate = functional.linear(h, weights.mlp_out, weights.mlp_out_bias), mlp_gate
    return x if y is None or gate is None else x + y * gate


def _self_attention(h: Tensor, at: Phases, weights: BlockWeights) -> Tensor:
    heads = len(weights.cross_gammas)
    qkv = functional.linear(h, weights.qkv, weights.qkv_bias)
    q, k = norm_heads(qkv, weights.gammas, at.cos, at.sin).split(heads, dim=2)
    v = qkv.unflatten(-1, (3, heads, -1))[:, :, 2]
    return functional.linear(attend(q, k, v).flatten(2), weights.out, weights.out_bias)


def _cross_attention(h: Tensor, weights: BlockWeights, context: Context) -> Tensor | None:
    """What the picture adds to the tokens that see it: [1, tokens, channels]."""
    if context.keys is None or context.values is None:
        return None
    q = norm_heads(functional.linear(h, weights.cross_q, weights.cross_q_bias), weights.cross_gammas)
    seen = attend(q, context.keys, context.values).flatten(2)
    return functional.linear(seen, weights.cross_out, weights.cross_out_bias)
