"""Operations of the flow transformers' blocks: plain PyTorch, and on a GPU the fastest equivalents."""

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6  # of the blocks' layer norms

# cuDNN's attention is 1.7 times as fast as FlashAttention, but needs 70 ms of planning for each new number of tokens.
# That pays for large numbers, and for the constant number of the sparse structure's grid of 16^3. Otherwise PyTorch
# chooses (version 2.11: cuDNN, on an H100).
PLANNED_TOKENS = 8_192
GRID_TOKENS = 4_096


def attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute scaled dot-product attention; all are [branches, tokens, heads, head channels]."""
    q, keys, values = (x.transpose(1, 2) for x in (q, keys, values))
    tokens = q.shape[2]
    if q.is_cuda and q.dtype is not torch.float32 and (tokens >= PLANNED_TOKENS or tokens == GRID_TOKENS):
        attended = torch.ops.aten._scaled_dot_product_cudnn_attention(q, keys, values, None, False)[0]
    else:
        attended = functional.scaled_dot_product_attention(q, keys, values)
    return attended.transpose(1, 2).contiguous()


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer, then GELU (tanh form), to x [branches, tokens, channels]."""
    if not x.is_cuda or x.dtype is torch.float32:
        return functional.gelu(functional.linear(x, weight, bias), approximate="tanh")
    # cuBLASLt applies bias and GELU (tanh form) in the epilogue of the matrix product.
    fused: Tensor = torch._addmm_activation(bias, x.flatten(0, 1), weight.t(), use_gelu=True)
    return fused.unflatten(0, x.shape[:2])


def add_modulate(
    x: Tensor, y: Tensor | None, gate: Tensor | None, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x + y * gate, and its layer norm times (1 + scale), plus shift.

    Args:
        x, y: [branches, tokens, channels]; without y nothing is added. gate, scale, shift: [channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x, y, gate=gate, branches=len(x), scale=scale, shift=shift, modulates=True, normed=len(x), eps=EPS
        )
    summed = x if y is None or gate is None else x + y * gate
    return summed, layer_norm(summed) * (1 + scale) + shift


def add_norm_affine(
    x: Tensor, y: Tensor, gate: Tensor, weight: Tensor, bias: Tensor, conditional: int
) -> tuple[Tensor, Tensor]:
    """Return x + y * gate, and the layer norm of its first `conditional` branches.

    Args:
        weight, bias: of the layer norm, float32 [channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x, y, gate=gate, branches=len(x), scale=weight, shift=bias, modulates=False, normed=conditional, eps=EPS
        )
    summed = x + y * gate
    return summed, layer_norm(summed[:conditional], weight, bias)


def add_context(
    x: Tensor, attended: Tensor | None, unconditional: Tensor, branches: int, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x + cross-attention, and its layer norm times (1 + scale), plus shift: [branches, tokens, channels] both.

    Args:
        x: [1 or branches, tokens, channels]. attended: cross-attention of the first branch, [1, tokens, channels], or
            None. unconditional: [channels], added to the other branch, or to all if `attended` is None.
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.add_norm(
            x,
            attended,
            rest=unconditional,
            branches=branches,
            scale=scale,
            shift=shift,
            modulates=True,
            normed=branches,
            eps=EPS,
        )
    added = unconditional if attended is None else attended
    if attended is not None and branches > 1:
        added = torch.cat((attended, unconditional.expand_as(attended)))
    summed = x + added
    return summed, layer_norm(summed) * (1 + scale) + shift


def norm_heads(x: Tensor, gammas: Tensor, cos: Tensor | None = None, sin: Tensor | None = None) -> Tensor:
    """Normalize each head's vector to length sqrt(head channels), scale it by gamma, and rotate it if angles are given.

    Args:
        x: [branches, tokens, channels]; the first heads * head channels are used. gammas: float32 [heads, head
            channels]. cos, sin: see `transformer_block.Phases`.

    Returns:
        [branches, tokens, heads, head channels].
    """
    if x.is_cuda:
        from worker.engines.trellis.models import triton_kernels

        return triton_kernels.norm_heads(x, gammas, cos, sin)
    heads = x[..., : gammas.numel()].unflatten(-1, gammas.shape)
    normed = (functional.normalize(heads.float(), dim=-1) * gammas * gammas.shape[1] ** 0.5).to(x.dtype)
    return normed if cos is None or sin is None else _rotate(normed, cos, sin)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Apply layer norm over the last axis, computed in float32."""
    return functional.layer_norm(x.float(), x.shape[-1:], weight, bias, EPS).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs of [branches, tokens, heads, head channels]; computed in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)
