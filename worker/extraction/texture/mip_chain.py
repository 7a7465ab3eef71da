"""The mip levels of one channel of a texture, and the normal equations of the least squares problem over them.

The problem: each texel of a level, read with bilinear filtering from the next coarser level, should have its own value,
weighted. `gutter` explains the purpose.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import warp as wp


@dataclass(frozen=True)
class Level:
    """One mip level of one channel; all arrays are on the device of the texels.

    gap: float32 [side, side], the part of each texel that belongs to the gutter, 0-1. value: float32 [side, side].
    stencil, target: the normal equations of the points of the charts: for each texel's row of the matrix the
    coefficients of the texel and its eight neighbours, mat33 [side, side], and the right-hand side, float32.
    """

    gap: wp.array
    value: wp.array
    stencil: wp.array
    target: wp.array


def build_levels(value: wp.array, weight: wp.array, gaps: list[wp.array]) -> list[Level]:
    """Build one level for each of `gaps`, the first at half the side of `value`.

    Args:
        value: float32 [side, side], of the channel.
        weight: float32 [side, side], of an error at each texel; 0 in the gutter.
        gaps: of each level, the part of each texel that belongs to the gutter.
    """
    levels = []
    desired = value
    for gap in gaps:
        value = halve(value)
        level = Level(gap, value, _empty_like(gap, wp.mat33), _empty_like(gap))
        launch(_build_equations, gap, weight, desired, gap, level.stencil, level.target)
        levels.append(level)
        finer, (weight, desired) = (weight, desired), (_empty_like(gap), _empty_like(gap))
        launch(_average_points, gap, *finer, weight, desired)
    return levels


def apply_normal_matrix(levels: list[Level], fields: list[wp.array], *, subtract_target: bool) -> wp.array:
    """Multiply the normal matrix of all levels by a field, and return the result at the finest level.

    Args:
        fields: one for each level, each the mean of the finer one.
        subtract_target: subtract the right-hand side, which gives the gradient.
    """
    side = max(levels[-1].gap.shape[0] // 2, 1)
    total = wp.zeros((side, side), dtype=wp.float32, device=levels[0].gap.device)
    for level, field in zip(reversed(levels), reversed(fields), strict=True):
        coarser, total = total, _empty_like(level.gap)
        inputs = [level.gap, level.stencil, field, level.target, int(subtract_target), coarser, total]
        launch(_multiply_row, total, *inputs)
    return total


def update_coarser_levels(levels: list[Level]) -> None:
    """Recompute the values of the coarser levels from the finest."""
    for finer, coarser in pairwise(levels):
        launch(_halve, coarser.value, finer.value, coarser.value)


def halve(finer: wp.array) -> wp.array:
    """Return the next coarser level, float32 [side / 2, side / 2]: the means of four texels."""
    side = finer.shape[0] // 2
    coarser = wp.empty((side, side), dtype=wp.float32, device=finer.device)
    launch(_halve, coarser, finer, coarser)
    return coarser


def launch(kernel: Any, over: wp.array, *inputs: Any) -> None:
    """Launch a kernel for each texel of `over`."""
    wp.launch(kernel, dim=over.shape, inputs=list(inputs), device=over.device)


def _empty_like(texels: wp.array, dtype: Any = wp.float32) -> wp.array:
    return wp.empty(texels.shape, dtype=dtype, device=texels.device)


@wp.kernel
def _halve(finer: wp.array2d[wp.float32], coarser: wp.array2d[wp.float32]) -> None:
    y, x = wp.tid()
    upper = finer[2 * y, 2 * x] + finer[2 * y, 2 * x + 1]
    coarser[y, x] = 0.25 * (upper + finer[2 * y + 1, 2 * x] + finer[2 * y + 1, 2 * x + 1])


@wp.kernel
def _average_points(
    weight: wp.array2d[wp.float32],
    desired: wp.array2d[wp.float32],
    coarse_weight: wp.array2d[wp.float32],
    coarse_desired: wp.array2d[wp.float32],
) -> None:
    """Compute the mean of four weights, and the weighted mean of the desired values."""
    y, x = wp.tid()
    total = float(0.0)
    weighted = float(0.0)
    for child in range(4):
        row = 2 * y + (child >> 1)
        column = 2 * x + (child & 1)
        total += weight[row, column]
        weighted += weight[row, column] * desired[row, column]
    coarse_weight[y, x] = 0.25 * total
    coarse_desired[y, x] = wp.where(total > 0.0, weighted / wp.max(total, 1.0e-20), 0.0)


@wp.kernel
def _build_equations(
    weight: wp.array2d[wp.float32],
    desired: wp.array2d[wp.float32],
    gap: wp.array2d[wp.float32],
    stencil: wp.array2d[wp.mat33],
    target: wp.array2d[wp.float32],
) -> None:
    """Add up the points that read this texel: the 4 x 4 finer texels around it, each bilinear between four texels."""
    y, x = wp.tid()
    coefficients = wp.mat33()
    right_side = float(0.0)
    if gap[y, x] > 0.0:
        for i in range(4):
            # The weight of this texel's row, and which row of the stencil has the rest.
            row = 2 * y - 1 + i
            down = wp.where(i == 1 or i == 2, 0.75, 0.25)
            rest_row = wp.where(i < 2, 0, 2)
            for j in range(4):
                column = 2 * x - 1 + j
                if row >= 0 and row < weight.shape[0] and column >= 0 and column < weight.shape[1]:
                    along = wp.where(j == 1 or j == 2, 0.75, 0.25)
                    rest_column = wp.where(j < 2, 0, 2)
                    # The point's share of this texel, times its shares of all four texels.
                    share = weight[row, column] * down * along
                    coefficients[1, 1] += share * down * along
                    coefficients[rest_row, 1] += share * (1.0 - down) * along
                    coefficients[1, rest_column] += share * down * (1.0 - along)
                    coefficients[rest_row, rest_column] += share * (1.0 - down) * (1.0 - along)
                    right_side += share * desired[row, column]
    stencil[y, x] = coefficients
    target[y, x] = right_side


@wp.kernel
def _multiply_row(
    gap: wp.array2d[wp.float32],
    stencil: wp.array2d[wp.mat33],
    field: wp.array2d[wp.float32],
    target: wp.array2d[wp.float32],
    subtract_target: wp.int32,
    coarser: wp.array2d[wp.float32],
    total: wp.array2d[wp.float32],
) -> None:
    y, x = wp.tid()
    if gap[y, x] == 0.0:
        return
    # Take a quarter of the coarser levels' result: this texel is a quarter of its parent.
    coefficients = stencil[y, x]
    result = 0.25 * coarser[wp.min(y / 2, coarser.shape[0] - 1), wp.min(x / 2, coarser.shape[1] - 1)]
    result -= float(subtract_target) * target[y, x]
    # Add this level's: the stencil times the texel and its neighbours, those beyond the border clamped.
    for i in range(3):
        row = wp.clamp(y + i - 1, 0, field.shape[0] - 1)
        for j in range(3):
            result += coefficients[i, j] * field[row, wp.clamp(x + j - 1, 0, field.shape[1] - 1)]
    total[y, x] = result
