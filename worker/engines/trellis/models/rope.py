"""Rotary position embedding of voxel coordinates (RoFormer, arXiv:2104.09864, one third of the pairs per axis)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Phases:
    """The angles' cosines and sines: float32 [tokens, head channels / 2]."""

    cos: Tensor
    sin: Tensor


def phases(coords: Tensor, head_channels: int, freq: tuple[float, float] = (1.0, 10_000.0)) -> Phases:
    """Angles for integer coords [tokens, 3]; pairs left over after thirds are not rotated."""
    pairs = head_channels // 2
    per_axis = pairs // 3
    exponents = torch.arange(per_axis, dtype=torch.float32) / per_axis
    freqs = (freq[0] / freq[1] ** exponents).to(coords.device)
    angles = (coords.float()[:, :, None] * freqs).flatten(1)
    angles = torch.nn.functional.pad(angles, (0, pairs - 3 * per_axis))
    return Phases(angles.cos(), angles.sin())
