"""A sparse convolution restated over a dense grid: slow, and plain enough to be read off."""

import torch
from torch import Tensor
from torch.nn import functional


def convolve(x: Tensor, coords: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The dense convolution of x [cells, in] laid on its grid, read at the same cells. weight: [out, x, y, z, in]."""
    side = int(coords.max()) + 1
    grid = torch.zeros(x.shape[1], side, side, side, dtype=x.dtype)
    i, j, k = coords.long().unbind(1)
    grid[:, i, j, k] = x.t()
    out = functional.conv3d(grid[None], weight.permute(0, 4, 1, 2, 3), bias, padding=1)[0]
    return out[:, i, j, k].t()
