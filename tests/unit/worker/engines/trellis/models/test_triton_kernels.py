"""The GPU's kernels compute what the plain code computes; here on the CPU, in Triton's interpreter."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read where the kernels are defined

import pytest
import torch
from torch import Tensor

from worker.engines.trellis.models import ops, triton_kernels

TOKENS, CHANNELS, HEADS, WIDTH = 5, 48, 6, 16
# Not bfloat16: the interpreter cuts it off where a GPU rounds it.
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.float32])


def _drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _check(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Equal but for the order of a sum: one rounding at most, and seldom."""
    for ours, plain in zip(actual, expected, strict=True):
        assert (plain.shape, plain.dtype) == (ours.shape, ours.dtype)
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5 if ours.dtype is torch.float32 else 1e-3)
        assert int((ours != plain).sum()) <= (0.01 if ours.dtype is torch.float16 else 1) * ours.numel()


@DTYPES
@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("adds", [True, False])
def test_sum_and_modulated_norm(dtype: torch.dtype, branches: int, adds: bool) -> None:
    """What the block before added, then the norm of the next one; the first block has none before it."""
    x, y = (_drawn(branches, TOKENS, CHANNELS, dtype=dtype, seed=seed) for seed in (1, 2))
    gate, scale, shift = _drawn(3, CHANNELS, dtype=dtype)
    added = (y, gate) if adds else (None, None)
    actual = triton_kernels.add_norm(
        x,
        added[0],
        gate=added[1],
        branches=branches,
        scale=scale,
        shift=shift,
        modulates=True,
        normed=branches,
        eps=ops.EPS,
    )
    _check(actual, ops.add_modulate(x, *added, scale, shift))


@DTYPES
@pytest.mark.parametrize(("branches", "looking"), [(2, 1), (1, 1), (1, 0)])
def test_sum_and_norm_of_those_that_look(dtype: torch.dtype, branches: int, looking: int) -> None:
    """All are added to; the norm, with weights in float32, is only of the branch that sees the image."""
    x, y = (_drawn(branches, TOKENS, CHANNELS, dtype=dtype, seed=seed) for seed in (1, 2))
    gate, (weight, bias) = _drawn(CHANNELS, dtype=dtype), _drawn(2, CHANNELS, dtype=torch.float32)
    actual = triton_kernels.add_norm(
        x, y, gate=gate, branches=branches, scale=weight, shift=bias, modulates=False, normed=looking, eps=ops.EPS
    )
    _check(actual, ops.add_norm_affine(x, y, gate, weight, bias, looking))


@DTYPES
@pytest.mark.parametrize(("before", "branches", "sees"), [(1, 2, True), (2, 2, True), (1, 1, True), (1, 1, False)])
def test_sum_of_what_is_seen(dtype: torch.dtype, before: int, branches: int, sees: bool) -> None:
    """The first branch gets cross-attention, the second one the constant; one branch may become two here."""
    x, seen = _drawn(before, TOKENS, CHANNELS, dtype=dtype, seed=1), _drawn(1, TOKENS, CHANNELS, dtype=dtype, seed=2)
    without, scale, shift = _drawn(3, CHANNELS, dtype=dtype)
    shown = seen if sees else None
    actual = triton_kernels.add_norm(
        x,
        shown,
        rest=without,
        branches=branches,
        scale=scale,
        shift=shift,
        modulates=True,
        normed=branches,
        eps=ops.EPS,
    )
    _check(actual, ops.add_context(x, shown, without, branches, scale, shift))


@DTYPES
@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize("branches", [1, 2])
def test_heads_are_normed_and_rotated(dtype: torch.dtype, rotates: bool, branches: int) -> None:
    """Of a wider tensor, whose first part they are."""
    x, gammas = _drawn(branches, TOKENS, HEADS * WIDTH + 48, dtype=dtype), _drawn(HEADS, WIDTH, dtype=torch.float32)
    angles = _drawn(TOKENS, WIDTH // 2, dtype=torch.float32, seed=3)
    turns = (angles.cos(), angles.sin()) if rotates else (None, None)
    _check((triton_kernels.norm_heads(x, gammas, *turns),), (ops.norm_heads(x, gammas, *turns),))
