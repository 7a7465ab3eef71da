"""Mip levels of one channel of a texture, and the normal equations of what its charts ask of them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import warp as wp


@dataclass(frozen=True)
class Level:
    """One mip level of one channel; all on the texels' device.

    gap: what part of each texel lies between charts, float32 [side, side]. value: its mean, likewise.
    stencil, target: the normal equations of the points of the charts, each read between four texels: how much of the
    texel and its eight neighbours goes into its row, mat33 [side, side], and the row's right side, float32.
    """

    gap: wp.array
    value: wp.array
    stencil: wp.array
    target: wp.array


def levels(value: wp.array, weight: wp.array, gaps: list[wp.array]) -> list[Level]:
    """One level for each of `gaps`, which begin at half the side; the points of each are the texels of the one before.

    value: of the channel, at each texel, float32 [side, side]. weight: how much an error counts there, likewise; 0
    where there is no chart. gaps: what part of each texel of a level lies between charts.
    """
    made = []
    wanted = value
    for gap in gaps:
        value = halved(value)
        level = Level(gap, value, _like(gap, wp.mat33), _like(gap))
        launch(_measure, gap, weight, wanted, gap, level.stencil, level.target)
        made.append(level)
        finer, (weight, wanted) = (weight, wanted), (_like(gap), _like(gap))
        launch(_gather, gap, *finer, weight, wanted)
    return made


def rows(levels: list[Level], fields: list[wp.array], right_side: int) -> wp.array:
    """The normal matrix times a field, of all levels together, as the finest's texels have a part in them.

    fields: one for each level, each the mean of the finer. right_side: 1 to take it off, for the gradient; else 0.
    """
    side = max(levels[-1].gap.shape[0] // 2, 1)
    total = wp.zeros((side, side), dtype=wp.float32, device=levels[0].gap.device)
    for level, field in zip(reversed(levels), reversed(fields), strict=True):
        coarser, total = total, _like(level.gap)
        launch(_row, total, level.gap, level.stencil, field, level.target, right_side, coarser, total)
    return total


def settle(levels: list[Level]) -> None:
    """Make the values of all coarser levels the means of the finest's."""
    for finer, coarser in pairwise(levels):
        launch(_halve, coarser.value, finer.value, coarser.value)


def halved(finer: wp.array) -> wp.array:
    """The next level: the mean of each four texels."""
    side = finer.shape[0] // 2
    coarser = wp.empty((side, side), dtype=wp.float32, device=finer.device)
    launch(_halve, coarser, finer, coarser)
    return coarser


def launch(kernel: Any, over: wp.array, *inputs: Any) -> None:
    """Run a kernel for each texel of `over`."""
    wp.launch(kernel, dim=over.shape, inputs=list(inputs), device=over.device)


def _like(texels: wp.array, dtype: Any = wp.float32) -> wp.array:
    return wp.empty(texels.shape, dtype=dtype, device=texels.device)


@wp.kernel
def _halve(finer: wp.array2d[wp.float32], coarser: wp.array2d[wp.float32]) -> None:
    y, x = wp.tid()
    upper = finer[2 * y, 2 * x] + finer[2 * y, 2 * x + 1]
    coarser[y, x] = 0.25 * (upper + finer[2 * y + 1, 2 * x] + finer[2 * y + 1, 2 * x + 1])


@wp.kernel
def _gather(
    weight: wp.array2d[wp.float32],
    wanted: wp.array2d[wp.float32],
    coarse_weight: wp.array2d[wp.float32],
    coarse_wanted: wp.array2d[wp.float32],
) -> None:
    """The mean of four weights, and of what is wanted by weight."""
    y, x = wp.tid()
    total = float(0.0)
    sought = float(0.0)
    for child in range(4):
        row = 2 * y + (child >> 1)
        column = 2 * x + (child & 1)
        total += weight[row, column]
        sought += weight[row, column] * wanted[row, column]
    coarse_weight[y, x] = 0.25 * total
    coarse_wanted[y, x] = wp.where(total > 0.0, sought / wp.max(total, 1.0e-20), 0.0)


@wp.kernel
def _measure(
    weight: wp.array2d[wp.float32],
    wanted: wp.array2d[wp.float32],
    gap: wp.array2d[wp.float32],
    stencil: wp.array2d[wp.mat33],
    target: wp.array2d[wp.float32],
) -> None:
    """Add up the points that read this texel: the 4 x 4 finer texels around it, each bilinear between four of these."""
    y, x = wp.tid()
    own_row = wp.mat33()
    right_side = float(0.0)
    if gap[y, x] > 0.0:
        for i in range(4):
            row = 2 * y - 1 + i
            down = wp.where(i == 1 or i == 2, 0.75, 0.25)
            aside = wp.where(i < 2, 0, 2)
            for j in range(4):
                column = 2 * x - 1 + j
                if row >= 0 and row < weight.shape[0] and column >= 0 and column < weight.shape[1]:
                    along = wp.where(j == 1 or j == 2, 0.75, 0.25)
                    beside = wp.where(j < 2, 0, 2)
                    share = weight[row, column] * down * along
                    own_row[1, 1] += share * down * along
                    own_row[aside, 1] += share * (1.0 - down) * along
                    own_row[1, beside] += share * down * (1.0 - along)
                    own_row[aside, beside] += share * (1.0 - down) * (1.0 - along)
                    right_side += share * wanted[row, column]
    stencil[y, x] = own_row
    target[y, x] = right_side


@wp.kernel
def _row(
    gap: wp.array2d[wp.float32],
    stencil: wp.array2d[wp.mat33],
    field: wp.array2d[wp.float32],
    target: wp.array2d[wp.float32],
    right_side: wp.int32,
    coarser: wp.array2d[wp.float32],
    total: wp.array2d[wp.float32],
) -> None:
    y, x = wp.tid()
    if gap[y, x] == 0.0:
        return
    own_row = stencil[y, x]
    found = 0.25 * coarser[wp.min(y / 2, coarser.shape[0] - 1), wp.min(x / 2, coarser.shape[1] - 1)]
    found -= float(right_side) * target[y, x]
    for i in range(3):
        row = wp.clamp(y + i - 1, 0, field.shape[0] - 1)  # beyond the border the last texel is read again
        for j in range(3):
            found += own_row[i, j] * field[row, wp.clamp(x + j - 1, 0, field.shape[1] - 1)]
    total[y, x] = found
