"""Find each chart's place in the square: the lowest where it fits, in the best of four turns.

Charts are rows of filled spans on a grid of cells, and the square keeps for every cell how many free cells follow it
in its row. A chart fits where each of its spans is followed by enough; where one is not, the search jumps past the
obstacle. The CPU looks at one place after the other, the GPU at all rows of the square together; they find the same.
"""

import numpy as np
import warp as wp
from numpy.typing import NDArray

Ints = NDArray[np.int64]

STRETCH = 32  # cells of a row that one GPU thread looks at


def place(
    sizes: Ints,
    spans: list[NDArray[np.int32]],
    ends: list[Ints],
    order: Ints,
    cells: int,
    device: str,
    *,
    together: bool,
) -> Ints:
    """Each chart's column, row and turn; int64 [charts, 3].

    sizes: [turns, charts, 2], cells across and down. spans, ends: for each turn, as `pack` describes them. order: of
    the charts, the first to be placed first. together: whether to look at all rows at once, as suits a GPU.
    """
    offsets = np.cumsum([0, *(len(each) for each in spans[:-1])])
    first = np.stack([offset + np.r_[0, each[:-1]] for offset, each in zip(offsets, ends, strict=True)])
    past = np.stack([offset + each for offset, each in zip(offsets, ends, strict=True)])
    rows = 4 * cells + int(sizes.max())
    free = wp.array(np.tile(np.arange(cells, 0, -1, dtype=np.int16), (rows, 1)), dtype=wp.int16, device=device)
    widest = wp.full(rows, cells, dtype=wp.int32, device=device)
    where = wp.zeros((len(order), 3), dtype=wp.int32, device=device)
    shapes = [sizes.reshape(-1, 2), first, past, np.concatenate(spans)]
    inputs = [wp.array(each.astype(np.int32), dtype=wp.int32, device=device) for each in (order, *shapes)]
    if together:
        _fit_each([*inputs, free, widest], where, int(sizes[..., 1].max()))
    else:
        wp.launch(_fit_all, dim=1, inputs=[*inputs, free, widest, where], device=device)
    places: NDArray[np.int32] = where.numpy()
    return places.astype(np.int64)


def _fit_each(inputs: list[wp.array], where: wp.array, tallest: int) -> None:
    """Two launches for each chart: all rows look for a place at once, then the best is taken."""
    device, count, cells = where.device, len(where), inputs[5].shape[1]
    best = wp.full(count, 2**62, dtype=wp.int64, device=device)
    height = wp.zeros(1, dtype=wp.int32, device=device)
    shared = [0, *inputs, height, best]
    looking = (inputs[2].shape[0], 4 * cells, -(-cells // STRETCH))
    look = wp.launch(_look, dim=looking, inputs=shared, device=device, record_cmd=True)
    take = wp.launch(_take, dim=tallest, inputs=[*shared, where], device=device, record_cmd=True)
    for number in range(count):
        for command in (look, take):
            command.set_param_at_index(0, number)
            command.launch()


@wp.func
def _blocked(
    spans: wp.array2d[wp.int32], first: wp.int32, past: wp.int32, free: wp.array2d[wp.int16], x: wp.int32, y: wp.int32
) -> wp.int32:
    """0 where the shape fits at (x, y), else how far right the next place to ask for is: past the obstacle."""
    for span in range(first, past):
        row = y + spans[span, 0]
        begin = x + spans[span, 1]
        follows = int(free[row, begin])
        if follows < 0:
            return -follows
        if follows < spans[span, 2]:
            return follows - int(free[row, begin + follows])
    return 0


@wp.func
def _recount(free: wp.array2d[wp.int16], row: wp.int32, begin: wp.int32, past: wp.int32) -> wp.int32:
    """Count anew how many free cells, or negative how many others, follow each cell, once those of a span are taken.

    Left of the span counting ends where a count stays as it was.
    """
    run = int(0)
    if past < free.shape[1]:
        run = int(free[row, past])
    cell = past - 1
    while cell >= 0:
        if free[row, cell] > wp.int16(0):
            run = wp.max(run, 0) + 1
        else:
            run = wp.min(run, 0) - 1
        if cell < begin and int(free[row, cell]) == run:
            return cell
        free[row, cell] = wp.int16(run)
        cell -= 1
    return cell


@wp.func
def _widest(free: wp.array2d[wp.int16], row: wp.int32) -> wp.int32:
    """The longest run of free cells in a row."""
    longest = int(0)
    cell = int(0)
    while cell < free.shape[1]:
        longest = wp.max(longest, int(free[row, cell]))
        cell += wp.abs(int(free[row, cell]))
    return longest


@wp.func
def _occupy(
    spans: wp.array2d[wp.int32],
    first: wp.int32,
    past: wp.int32,
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
    x: wp.int32,
    y: wp.int32,
) -> wp.int32:
    """Mark the shape's cells and count its rows anew."""
    for span in range(first, past):
        row = y + spans[span, 0]
        begin = x + spans[span, 1]
        for cell in range(begin, begin + spans[span, 2]):
            free[row, cell] = wp.int16(-1)
    for span in range(first, past):
        _recount(free, y + spans[span, 0], x + spans[span, 1], x + spans[span, 1] + spans[span, 2])
    for span in range(first, past):
        widest[y + spans[span, 0]] = _widest(free, y + spans[span, 0])
    return 0


@wp.kernel
def _fit_all(
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
    where: wp.array2d[wp.int32],
) -> None:
    """Sizes are indexed by turn * charts + chart."""
    count = order.shape[0]
    cells = free.shape[1]
    for number in range(count):
        chart = order[number]
        best_top = int(1 << 30)
        for turn in range(first.shape[0]):
            width = size[turn * count + chart, 0]
            height = size[turn * count + chart, 1]
            y = int(0)
            while y + height < best_top and y + height <= free.shape[0]:
                x = int(0)
                for span in range(first[turn, chart], wp.min(first[turn, chart] + 8, past[turn, chart])):
                    if widest[y + spans[span, 0]] < spans[span, 2]:
                        x = cells
                while x + width <= cells:
                    jump = _blocked(spans, first[turn, chart], past[turn, chart], free, x, y)
                    if jump == 0:
                        best_top = y + height
                        where[chart, 0] = x
                        where[chart, 1] = y
                        where[chart, 2] = turn
                        x = cells
                    x += jump
                y += 1
        turn = where[chart, 2]
        _occupy(spans, first[turn, chart], past[turn, chart], free, widest, where[chart, 0], where[chart, 1])


@wp.kernel
def _look(
    number: wp.int32,
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
    height: wp.array[wp.int32],
    best: wp.array[wp.int64],
) -> None:
    """Best is the place with the lowest end, then turn, then column, as one number."""
    turn, y, stretch = wp.tid()
    chart = order[number]
    shape = turn * order.shape[0] + chart
    end = y + size[shape, 1]
    if y > height[0] or end > int(best[number] >> wp.int64(32)):
        return
    begin = first[turn, chart]
    for span in range(begin, wp.min(begin + 8, past[turn, chart])):
        if widest[y + spans[span, 0]] < spans[span, 2]:
            return
    x = stretch * wp.static(STRETCH)
    past_x = wp.min(x + wp.static(STRETCH), free.shape[1] - size[shape, 0] + 1)
    while x < past_x:
        jump = _blocked(spans, begin, past[turn, chart], free, x, y)
        if jump == 0:
            key = (wp.int64(end) << wp.int64(32)) | wp.int64((turn << 16) | x)
            wp.atomic_min(best, number, key)
            return
        x += jump


@wp.kernel
def _take(
    number: wp.int32,
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
    height: wp.array[wp.int32],
    best: wp.array[wp.int64],
    where: wp.array2d[wp.int32],
) -> None:
    """One thread for each of the chart's rows."""
    row = wp.tid()
    chart = order[number]
    end = int(best[number] >> wp.int64(32))
    turn = int(best[number] >> wp.int64(16)) & 0xFFFF
    x = int(best[number]) & 0xFFFF
    tall = size[turn * order.shape[0] + chart, 1]
    if row >= tall:
        return
    if row == 0:
        where[chart, 0] = x
        where[chart, 1] = end - tall
        where[chart, 2] = turn
        height[0] = wp.max(height[0], end)
    y = end - tall + row
    for span in range(first[turn, chart], past[turn, chart]):
        if spans[span, 0] == row:
            begin = x + spans[span, 1]
            for cell in range(begin, begin + spans[span, 2]):
                free[y, cell] = wp.int16(-1)
    for span in range(first[turn, chart], past[turn, chart]):
        if spans[span, 0] == row:
            _recount(free, y, x + spans[span, 1], x + spans[span, 1] + spans[span, 2])
    widest[y] = _widest(free, y)
