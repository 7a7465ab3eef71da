"""What a block of the flow transformers is made of: plain PyTorch, or on a GPU the fastest that computes the same."""

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6  # of all the blocks' layer norms

# cuDNN's attention is 1.7 times as fast as FlashAttention, but plans for 70 ms whenever it sees a new number of tokens.
# It surely pays where there are many, and where they are always as many: in the sparse structure's grid of 16^3.
# Elsewhere PyTorch chooses (version 2.11: cuDNN's, on an H100).
PLANNED_TOKENS = 8_192
GRID_TOKENS = 4_096


def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of q over keys and values, all [branches, tokens, heads, head channels]; the same of q."""
    q, keys, values = (x.transpose(1, 2) for x in (q, keys, values))
    tokens = q.shape[2]
    if q.is_cuda and q.dtype is not torch.float32 and (tokens >= PLANNED_TOKENS or tokens == GRID_TOKENS):
        seen = torch.ops.aten._scaled_dot_product_cudnn_attention(q, keys, values, None, False)[0]
    else:
        seen = functional.scaled_dot_product_attention(q, keys, values)
    return seen.transpose(1, 2).contiguous()


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh form) of a linear layer on x [branches, tokens, channels]."""
    if not x.is_cuda or x.dtype is torch.float32:
        return functional.gelu(functional.linear(x, weight, bias), approximate="tanh")
    # cuBLASLt applies bias and GELU (its tanh form) while the product is still in registers.
    fused: Tensor = torch._addmm_activation(bias, x.flatten(0, 1), weight.t(), use_gelu=True)
    return fused.unflatten(0, x.shape[:2])


def add_modulate(
    x: Tensor, y: Tensor | None, gate: Tensor | None, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """x + y * gate, and its layer norm times (1 + scale), plus shift.

    x, y: [branches, tokens, channels]; no y, nothing is added. gate, scale, shift: [channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x, y, gate=gate, branches=len(x), scale=scale, shift=shift, modulates=True, normed=len(x), eps=EPS
        )
    summed = x if y is None or gate is None else x + y * gate
    return summed, layer_norm(summed) * (1 + scale) + shift


def add_query(x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, looking: int) -> tuple[Tensor, Tensor]:
    """x + y * gate, and the layer norm of its first `looking` branches, with weight and bias, float32 [channels]."""
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x, y, gate=gate, branches=len(x), scale=weight, shift=bias, modulates=False, normed=looking, eps=EPS
        )
    summed = x + y * gate
    return summed, layer_norm(summed[:looking], weight, bias)


def add_seen(
    x: Tensor, seen: Tensor | None, without: Tensor, branches: int, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """x + what the picture adds, and its layer norm times (1 + scale), plus shift: [branches, tokens, channels] both.

    x: [1 or branches, tokens, channels]. seen: what the first branch sees, [1, tokens, channels]; the other one, or
    without it all, get `without` [channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x, seen, rest=without, branches=branches, scale=scale, shift=shift, modulates=True, normed=branches, eps=EPS
        )
    added = without if seen is None else seen
    if seen is not None and branches > 1:
        added = torch.cat((seen, without.expand_as(seen)))
    summed = x + added
    return summed, layer_norm(summed) * (1 + scale) + shift


def norm_heads(x: Tensor, gammas: Tensor, cos: Tensor | None = None, sin: Tensor | None = None) -> Tensor:
    """Scale each head's vector to length sqrt(head channels), then by its gamma; then rotate it, if there are angles.

    x: [branches, tokens, channels], at least heads * head channels of them, of which the first are taken. gammas:
    float32 [heads, head channels]. cos, sin: see `rope.Phases`. Returns [branches, tokens, heads, head channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.norm_heads(x, gammas, cos, sin)
    heads = x[..., : gammas.numel()].unflatten(-1, gammas.shape)
    normed = (functional.normalize(heads.float(), dim=-1) * gammas * gammas.shape[1] ** 0.5).to(x.dtype)
    return normed if cos is None or sin is None else _rotate(normed, cos, sin)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Layer norm over the last axis, in float32."""
    return functional.layer_norm(x.float(), x.shape[-1:], weight, bias, EPS).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs of [branches, tokens, heads, head channels]; computed in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
