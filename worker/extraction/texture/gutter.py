"""Fill the gutter, the texels between charts: dilate the charts, then optimize the gutter for mip levels.

`dilate` is push-pull filling (Gortler et al., The Lumigraph, 1996). Push: each coarser level averages the known ones of
four texels. Pull: each finer level takes its unknown texels from the coarser one.

`optimize_gutter_for_mips` minimizes the difference between coarse mip levels and the finest one. A texel of a coarse
level averages charts and gutter. The gutter itself is never visible, so it may have any value that makes the averages
right: here the solution of a least squares problem over all points of the charts and LEVELS levels together, found by
gradient descent with Jacobi preconditioning (each texel's step is divided by the sum of its row of the normal matrix),
which needs few steps.

Colours are averaged in linear light, as graphics cards do. An error of light is more visible in dark places, so it is
weighted by the slope of the sRGB curve there. (The square of the slope would measure the visible error, but renderers
that average codes instead of light would then look worse.)
"""

from itertools import pairwise

import numpy as np
import warp as wp

from worker.extraction.kernels.texels import COLOURS, LIGHT, SLOPE, linear_to_srgb
from worker.extraction.texture.mip_chain import apply_normal_matrix, build_levels, halve, launch, update_coarser_levels

LEVELS = 4
STEPS = 3
DAMPING = wp.constant(0.3)  # towards the dilated values: avoids 40 % of the growth of the files, for 0.4 dB


def dilate(texels: wp.array) -> wp.array:
    """Fill unknown texels in place; uint8 [rows, columns, channels + 1], both sides a power of two.

    The last channel is 255 where a texel is known, and does not change.
    """
    levels = [texels]
    while levels[-1].shape[0] > 1:
        rows, columns, channels = levels[-1].shape
        coarser = wp.zeros((rows // 2, columns // 2, channels), dtype=wp.uint8, device=texels.device)
        wp.launch(_push, dim=coarser.shape[:2], inputs=[levels[-1], coarser], device=texels.device)
        levels.append(coarser)
    for finer, coarser in reversed(list(pairwise(levels))):
        wp.launch(_pull, dim=finer.shape[:2], inputs=[coarser, finer], device=texels.device)
    return texels


def optimize_gutter_for_mips(texels: wp.array) -> wp.array:
    """Optimize the gutter in place; uint8 [side, side, channels + 1] as `dilate` returns it, side a power of two.

    Texels of charts, where the last channel is 255, do not change.
    """
    side, channels = texels.shape[0], texels.shape[2] - 1
    gap = wp.empty((side, side), dtype=wp.float32, device=texels.device)
    varies = wp.zeros(channels, dtype=wp.int32, device=texels.device)
    launch(_find_gaps, gap, texels, gap, varies)
    gaps = []
    for _ in range(min(LEVELS, side.bit_length() - 1)):
        gap = halve(gap)
        gaps.append(gap)
    for channel in np.flatnonzero(varies.numpy()):  # a channel with one value has the same value at all levels
        _optimize_channel(texels, int(channel), gaps)
    return texels


def _optimize_channel(texels: wp.array, channel: int, gaps: list[wp.array]) -> None:
    is_colour = channel < COLOURS
    tables = (LIGHT, SLOPE) if is_colour else (np.arange(256) / 255, np.ones(256))
    value_of, weight_of = (wp.array(table, dtype=wp.float32, device=texels.device) for table in tables)
    value, weight = (wp.empty(texels.shape[:2], dtype=wp.float32, device=texels.device) for _ in range(2))
    launch(_decode, value, texels, channel, value_of, weight_of, value, weight)
    levels = build_levels(value, weight, gaps)
    finest = levels[0]
    start = wp.clone(finest.value)
    row_sum = apply_normal_matrix(levels, [level.gap for level in levels], subtract_target=False)
    for _ in range(STEPS):
        gradient = apply_normal_matrix(levels, [level.value for level in levels], subtract_target=True)
        launch(_descend, start, finest.gap, start, gradient, row_sum, finest.value)
        update_coarser_levels(levels)
    launch(_encode, start, finest.gap, start, finest.value, value_of, int(is_colour), channel, texels)


@wp.kernel
def _push(finer: wp.array3d[wp.uint8], coarser: wp.array3d[wp.uint8]) -> None:
    # Count the known ones of the four finer texels.
    y, x = wp.tid()
    known = finer.shape[2] - 1
    count = int(0)
    for child in range(4):
        if finer[2 * y + (child >> 1), 2 * x + (child & 1), known] > wp.uint8(0):
            count += 1
    if count == 0:
        return
    # Average them, rounded.
    coarser[y, x, known] = wp.uint8(255)
    for channel in range(known):
        total = int(0)
        for child in range(4):
            if finer[2 * y + (child >> 1), 2 * x + (child & 1), known] > wp.uint8(0):
                total += int(finer[2 * y + (child >> 1), 2 * x + (child & 1), channel])
        coarser[y, x, channel] = wp.uint8((total + count / 2) / count)


@wp.kernel
def _pull(coarser: wp.array3d[wp.uint8], finer: wp.array3d[wp.uint8]) -> None:
    y, x = wp.tid()
    known = finer.shape[2] - 1
    if finer[y, x, known] > wp.uint8(0):
        return
    # Find the parent and its neighbours on the near sides; the texel is a quarter of a coarse texel off the centre.
    row = y / 2
    column = x / 2
    next_row = wp.clamp(row + 2 * (y & 1) - 1, 0, coarser.shape[0] - 1)
    next_column = wp.clamp(column + 2 * (x & 1) - 1, 0, coarser.shape[1] - 1)
    # Interpolate bilinearly: the weights are 3/4 and 1/4 on each axis.
    for channel in range(known):
        value = (
            9 * int(coarser[row, column, channel])
            + 3 * int(coarser[row, next_column, channel])
            + 3 * int(coarser[next_row, column, channel])
            + int(coarser[next_row, next_column, channel])
        )
        finer[y, x, channel] = wp.uint8((value + 8) / 16)


@wp.kernel
def _find_gaps(texels: wp.array3d[wp.uint8], gap: wp.array2d[wp.float32], varies: wp.array[wp.int32]) -> None:
    """Write 1 where a texel belongs to the gutter, else 0, and mark the channels with more than one value."""
    y, x = wp.tid()
    known = texels.shape[2] - 1
    gap[y, x] = wp.where(texels[y, x, known] > wp.uint8(0), 0.0, 1.0)
    for channel in range(known):
        if texels[y, x, channel] != texels[0, 0, channel]:
            varies[channel] = 1


@wp.kernel
def _decode(
    texels: wp.array3d[wp.uint8],
    channel: wp.int32,
    value_of: wp.array[wp.float32],
    weight_of: wp.array[wp.float32],
    value: wp.array2d[wp.float32],
    weight: wp.array2d[wp.float32],
) -> None:
    """Look up the value and the weight of each code; the gutter has no weight."""
    y, x = wp.tid()
    code = int(texels[y, x, channel])
    value[y, x] = value_of[code]
    weight[y, x] = wp.where(texels[y, x, texels.shape[2] - 1] > wp.uint8(0), weight_of[code], 0.0)


@wp.kernel
def _descend(
    gap: wp.array2d[wp.float32],
    start: wp.array2d[wp.float32],
    gradient: wp.array2d[wp.float32],
    row_sum: wp.array2d[wp.float32],
    value: wp.array2d[wp.float32],
) -> None:
    """Take one preconditioned step, damped towards the start."""
    y, x = wp.tid()
    if gap[y, x] > 0.0 and row_sum[y, x] > 0.0:
        back = DAMPING * (value[y, x] - start[y, x])
        value[y, x] -= (gap[y, x] * gradient[y, x] / row_sum[y, x] + back) / (1.0 + DAMPING)


@wp.kernel
def _encode(
    gap: wp.array2d[wp.float32],
    start: wp.array2d[wp.float32],
    value: wp.array2d[wp.float32],
    value_of: wp.array[wp.float32],
    is_colour: wp.int32,
    channel: wp.int32,
    texels: wp.array3d[wp.uint8],
) -> None:
    # The mean of four texels changes; only its gutter texels can, and by equal amounts.
    y, x = wp.tid()
    if gap[y, x] == 0.0:
        return
    change = (value[y, x] - start[y, x]) / gap[y, x]
    for child in range(4):
        row = 2 * y + (child >> 1)
        column = 2 * x + (child & 1)
        if texels[row, column, texels.shape[2] - 1] == wp.uint8(0):
            # Encode the changed value.
            changed = wp.clamp(value_of[int(texels[row, column, channel])] + change, 0.0, 1.0)
            if is_colour == 1:
                changed = linear_to_srgb(changed)
            texels[row, column, channel] = wp.uint8(changed * 255.0 + 0.5)
