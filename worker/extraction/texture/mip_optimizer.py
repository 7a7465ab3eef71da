"""Balance the texels between charts, so that a coarse mip level shows of a chart what the finest does.

A texel of a coarse level averages charts and what lies between them. What lies between is never seen by itself, so it
may be whatever makes those averages right: here what least squares ask for, over all points of the charts and LEVELS
levels at once. It is found by steps down the gradient, each texel's as long as its row of the normal matrix allows, so
that few are enough.

Colours are averaged in linear light, as graphics cards do. An error of light shows the more the darker the place, so
it weighs as much as codes rise with light there. (The square of that would be the error that is seen, but then what
averages codes, as some software does, would come off worse.)
"""

import numpy as np
import warp as wp

from worker.extraction.kernels.texels import COLOURS, LIGHT, SLOPE, linear_to_srgb
from worker.extraction.texture import mip_chain
from worker.extraction.texture.mip_chain import halved, launch

LEVELS = 4
STEPS = 3
DAMPING = wp.constant(0.3)  # toward what `fill` made: 40 % of the bytes that files would gain, for 0.4 dB


def optimize_gutter_for_mips(texels: wp.array) -> wp.array:
    """The texels, those between charts balanced in place; uint8 [side, side, channels + 1], as `fill` leaves them.

    side: a power of two. The last channel is 255 where a chart is. It stays as it was, and so do the texels there.
    """
    side, channels = texels.shape[0], texels.shape[2] - 1
    gap = wp.empty((side, side), dtype=wp.float32, device=texels.device)
    vary = wp.zeros(channels, dtype=wp.int32, device=texels.device)
    launch(_survey, gap, texels, gap, vary)
    gaps = []
    for _ in range(min(LEVELS, side.bit_length() - 1)):
        gap = halved(gap)
        gaps.append(gap)
    for channel in np.flatnonzero(vary.numpy()):  # where all is one value, so is each mean
        _balance(texels, int(channel), gaps)
    return texels


def _balance(texels: wp.array, channel: int, gaps: list[wp.array]) -> None:
    is_colour = channel < COLOURS
    tables = (LIGHT, SLOPE) if is_colour else (np.arange(256) / 255, np.ones(256))
    value_of, weight_of = (wp.array(table, dtype=wp.float32, device=texels.device) for table in tables)
    value, weight = (wp.empty(texels.shape[:2], dtype=wp.float32, device=texels.device) for _ in range(2))
    launch(_read, value, texels, channel, value_of, weight_of, value, weight)
    levels = mip_chain.levels(value, weight, gaps)
    finest = levels[0]
    start = wp.clone(finest.value)
    stiffness = mip_chain.rows(levels, [level.gap for level in levels], right_side=0)
    for _ in range(STEPS):
        surplus = mip_chain.rows(levels, [level.value for level in levels], right_side=1)
        launch(_step, start, finest.gap, start, surplus, stiffness, finest.value)
        mip_chain.settle(levels)
    launch(_write, start, finest.gap, start, finest.value, value_of, int(is_colour), channel, texels)


@wp.kernel
def _survey(texels: wp.array3d[wp.uint8], gap: wp.array2d[wp.float32], vary: wp.array[wp.int32]) -> None:
    y, x = wp.tid()
    known = texels.shape[2] - 1
    gap[y, x] = wp.where(texels[y, x, known] > wp.uint8(0), 0.0, 1.0)
    for channel in range(known):
        if texels[y, x, channel] != texels[0, 0, channel]:
            vary[channel] = 1


@wp.kernel
def _read(
    texels: wp.array3d[wp.uint8],
    channel: wp.int32,
    value_of: wp.array[wp.float32],
    weight_of: wp.array[wp.float32],
    value: wp.array2d[wp.float32],
    weight: wp.array2d[wp.float32],
) -> None:
    y, x = wp.tid()
    code = int(texels[y, x, channel])
    value[y, x] = value_of[code]
    weight[y, x] = wp.where(texels[y, x, texels.shape[2] - 1] > wp.uint8(0), weight_of[code], 0.0)


@wp.kernel
def _step(
    gap: wp.array2d[wp.float32],
    start: wp.array2d[wp.float32],
    surplus: wp.array2d[wp.float32],
    stiffness: wp.array2d[wp.float32],
    value: wp.array2d[wp.float32],
) -> None:
    y, x = wp.tid()
    if gap[y, x] > 0.0 and stiffness[y, x] > 0.0:
        back = DAMPING * (value[y, x] - start[y, x])
        value[y, x] -= (gap[y, x] * surplus[y, x] / stiffness[y, x] + back) / (1.0 + DAMPING)


@wp.kernel
def _write(
    gap: wp.array2d[wp.float32],
    start: wp.array2d[wp.float32],
    value: wp.array2d[wp.float32],
    value_of: wp.array[wp.float32],
    is_colour: wp.int32,
    channel: wp.int32,
    texels: wp.array3d[wp.uint8],
) -> None:
    """Move each texel between charts by what its four together are to move by."""
    y, x = wp.tid()
    if gap[y, x] == 0.0:
        return
    change = (value[y, x] - start[y, x]) / gap[y, x]
    for child in range(4):
        row = 2 * y + (child >> 1)
        column = 2 * x + (child & 1)
        if texels[row, column, texels.shape[2] - 1] == wp.uint8(0):
            moved = wp.clamp(value_of[int(texels[row, column, channel])] + change, 0.0, 1.0)
            if is_colour == 1:
                moved = linear_to_srgb(moved)
            texels[row, column, channel] = wp.uint8(moved * 255.0 + 0.5)
