"""Triton kernels for the element-wise work between a block's matrix products; each reads and writes its tensors once.

`_add_norm` fuses a gated residual addition with layer norm (arXiv:1607.06450) and modulation, `_norm_heads` RMS norm
(arXiv:1910.07467) of attention heads with rotary embedding (arXiv:2104.09864). Each value is rounded where upstream's
PyTorch code would have written a tensor, so that results are equal to upstream's.
"""

import triton
import triton.language as tl
from torch import Tensor

HEADS_AT_ONCE = 8


def add_norm(
    x: Tensor,
    y: Tensor | None,
    *,
    gate: Tensor | None = None,
    rest: Tensor | None = None,
    branches: int,
    scale: Tensor,
    shift: Tensor,
    modulates: bool,
    normed: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Add y to x, and normalize the sum's first `normed` branches: [branches, tokens, channels] and [normed, ...].

    Args:
        x: [1 or branches, tokens, channels]; a single branch is used for all. y: added to the first branches, times
            gate [channels]; the other branches get rest [channels]. modulates: multiply the norm by 1 + scale and add
            shift in x's dtype; else apply scale and shift in float32.
    """
    _, tokens, channels = x.shape
    rows, split = branches * tokens, 0 if y is None else y.shape[0] * tokens
    adds = y is not None or rest is not None
    summed = x.new_empty(branches, tokens, channels) if adds else x
    out = x.new_empty(normed, tokens, channels)
    _add_norm[(rows,)](
        x, x if y is None else y, x if rest is None else rest, x if gate is None else gate, scale, shift, summed, out,
        x.shape[0] * tokens, split, normed * tokens, channels, eps,
        adds=adds, has_rest=rest is not None, has_gate=gate is not None, modulates=modulates,
        block=triton.next_power_of_2(channels), num_warps=4,
    )  # fmt: skip
    return summed, out


def norm_heads(x: Tensor, gammas: Tensor, cos: Tensor | None = None, sin: Tensor | None = None) -> Tensor:
    """Apply RMS norm to each head's vector, then rotate it: [branches, tokens, heads, head channels], contiguous.

    Args:
        x: [branches, tokens, channels]; the first heads * head channels are used. gammas: float32 [heads, head
            channels]. cos, sin: float32 [tokens, head channels / 2].
    """
    branches, tokens = x.shape[:2]
    heads, width = gammas.shape
    out = x.new_empty(branches, tokens, heads, width)
    rotates = cos is not None
    _norm_heads[(branches * tokens, triton.cdiv(heads, HEADS_AT_ONCE))](
        x, gammas, cos if cos is not None else gammas, sin if sin is not None else gammas, out,
        x.stride(1), tokens, heads, width**0.5, rotates=rotates, width=width, at_once=HEADS_AT_ONCE, num_warps=4,
    )  # fmt: skip
    return out


# Not specialized: another number of tokens must not compile the kernel again.
@triton.jit(do_not_specialize=["x_rows", "split", "normed_rows"])
def _add_norm(
    x_at, y_at, rest_at, gate_at, scale_at, shift_at, summed_at, out_at,
    x_rows, split, normed_rows, channels, eps,
    adds: tl.constexpr, has_rest: tl.constexpr, has_gate: tl.constexpr, modulates: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    # 1. One program per row (a token of a branch), padded to a power of two; a single branch of x serves all.
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, block)
    within = column < channels
    kind = x_at.dtype.element_ty
    x = tl.load(x_at + (row % x_rows) * channels + column, mask=within, other=0.0).to(tl.float32)
    # 2. The residual: y in the first rows, the constant `rest` in the others; times the gate.
    if adds:
        added_at = y_at + row * channels
        if has_rest:  # noqa: SIM102 - a compile-time condition, unlike the inner one
            if row >= split:
                added_at = rest_at
        added = tl.load(added_at + column, mask=within, other=0.0).to(tl.float32)
        if has_gate:
            added *= tl.load(gate_at + column, mask=within, other=0.0).to(tl.float32)
            added = added.to(kind).to(tl.float32)
        # 3. The sum, rounded and stored.
        x = (x + added).to(kind).to(tl.float32)
        tl.store(summed_at + row * channels + column, x.to(kind), mask=within)
    # 4. Layer norm in float32: mean, then variance of the centred values.
    if row < normed_rows:
        mean = tl.sum(x, 0) / channels
        centred = tl.where(within, x - mean, 0.0)
        normed = centred * tl.rsqrt(tl.sum(centred * centred, 0) / channels + eps)
        scale = tl.load(scale_at + column, mask=within, other=0.0).to(tl.float32)
        shift = tl.load(shift_at + column, mask=within, other=0.0).to(tl.float32)
        # 5. Modulation, rounded after each operation, or an affine map in float32.
        if modulates:
            gain = (1.0 + scale).to(kind).to(tl.float32)
            normed = (normed.to(kind).to(tl.float32) * gain).to(kind).to(tl.float32)
            normed = normed + shift
        else:
            normed = normed * scale + shift
        tl.store(out_at + row * channels + column, normed.to(kind), mask=within)


@triton.jit(do_not_specialize=["tokens"])
def _norm_heads(
    x_at, gamma_at, cos_at, sin_at, out_at,
    x_stride, tokens, heads, root,
    rotates: tl.constexpr, width: tl.constexpr, at_once: tl.constexpr,
):  # fmt: skip
    # 1. One program per token of a branch and group of heads: a block of [at_once, width].
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * at_once + tl.arange(0, at_once)[:, None]
    offset = head * width + tl.arange(0, width)[None, :]
    within = offset < heads * width
    kind = x_at.dtype.element_ty
    x = tl.load(x_at + row * x_stride + offset, mask=within, other=0.0).to(tl.float32)
    # 2. Each head's vector to length sqrt(width), times gamma; rounded.
    length = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)
    x = x / length[:, None] * tl.load(gamma_at + offset, mask=within, other=0.0) * root
    x = x.to(kind)
    # 3. Rotate neighbouring pairs (even, odd) by the token's angles, in float32.
    if rotates:
        pair = (row % tokens) * (width // 2) + tl.arange(0, width // 2)
        cos, sin = tl.load(cos_at + pair)[None, :], tl.load(sin_at + pair)[None, :]
        even, odd = tl.split(tl.reshape(x.to(tl.float32), [at_once, width // 2, 2]))
        rotated = tl.join(even * cos - odd * sin, even * sin + odd * cos)
        x = tl.reshape(rotated, [at_once, width]).to(kind)
    tl.store(out_at + row * (heads * width) + offset, x, mask=within)
