"""Find each chart's place in the square: the lowest where it fits, in the best of four turns.

Charts are rows of filled spans on a grid of cells, and the square keeps for every cell how many free cells follow it
in its row. A chart fits where each of its spans is followed by enough; where one is not, the search jumps past the
obstacle. The CPU looks at one place after the other, the GPU at all rows of the square together; they find the same.

Thousands of small charts would fail at the same full rows again and again. So beyond the first FEW a chart looks only
where the last one of its kind, as wide and as tall, found nothing lower; but every RELOOK-th looks everywhere.
"""

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.uv import placement_gpu
from worker.extraction.uv.span_fit import blocked

Ints = NDArray[np.int64]

FEW = 512
RELOOK = 8


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
    kinds = np.unique((2 * np.log2(sizes)).astype(np.int64) @ [64, 1], return_inverse=True)[1].reshape(first.shape)
    everywhere = np.arange(len(order)) < FEW
    everywhere[::RELOOK] = True
    rows = 4 * cells + int(sizes.max())
    free = wp.array(np.tile(np.arange(cells, 0, -1, dtype=np.int16), (rows, 1)), dtype=wp.int16, device=device)
    widest = wp.full(rows, cells, dtype=wp.int32, device=device)
    lowest = wp.zeros(int(kinds.max()) + 1, dtype=wp.int32, device=device)
    where = wp.zeros((len(order), 3), dtype=wp.int32, device=device)
    shapes = [sizes.reshape(-1, 2), first, past, kinds, np.concatenate(spans)]
    inputs = [wp.array(each.astype(np.int32), dtype=wp.int32, device=device) for each in (order, everywhere, *shapes)]
    inputs += [free, widest, lowest]
    if together:
        placement_gpu.fit_each(inputs, where, most_spans=int((past - first).max()))
    else:
        wp.launch(_fit_all, dim=1, inputs=[*inputs, where], device=device)
    places: NDArray[np.int32] = where.numpy()
    return places.astype(np.int64)


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
    everywhere: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    kind: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
    lowest: wp.array[wp.int32],
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
            if everywhere[number] == 0:
                y = lowest[kind[turn, chart]]
            while y + height < best_top and y + height <= free.shape[0]:
                x = int(0)
                for span in range(first[turn, chart], wp.min(first[turn, chart] + 8, past[turn, chart])):
                    if widest[y + spans[span, 0]] < spans[span, 2]:
                        x = cells
                while x + width <= cells:
                    jump = blocked(spans, first[turn, chart], past[turn, chart], free, x, y)
                    if jump == 0:
                        best_top = y + height
                        where[chart, 0] = x
                        where[chart, 1] = y
                        where[chart, 2] = turn
                        x = cells
                    x += jump
                y += 1
        for turn in range(first.shape[0]):
            lowest[kind[turn, chart]] = wp.max(best_top - size[turn * count + chart, 1], 0)
        turn = where[chart, 2]
        _occupy(spans, first[turn, chart], past[turn, chart], free, widest, where[chart, 0], where[chart, 1])
