"""Find charts' places on a GPU: for each chart all rows of the square look at once, then all its cells are taken.

What the launches mean is said in `place`; they find the same places as its one loop on a CPU.
"""

import warp as wp

from worker.extraction.uv.span_fit import blocked

STRETCH = 32  # cells of a row that one thread looks at
LANES = 32  # threads that take the cells of one span


def fit_each(inputs: list[wp.array], where: wp.array, *, most_spans: int) -> None:
    """Three launches for each chart. inputs: as `place` has them; most_spans: of any chart."""
    order, everywhere, size, first, past, kind, spans, free, widest, lowest = inputs
    device, count, cells = where.device, len(order), free.shape[1]
    best = wp.full(count, 2**62, dtype=wp.int64, device=device)
    height = wp.zeros(1, dtype=wp.int32, device=device)
    shapes, stretches = [order, size, first, past, spans], -(-cells // STRETCH)
    commands = [
        wp.launch(kernel, dim=dim, inputs=[0, *shapes, best, free, *more], device=device, record_cmd=True)
        for kernel, dim, more in (
            (_look, (first.shape[0], 4 * cells, stretches), [height, widest, everywhere, kind, lowest]),
            (_take, (most_spans, LANES), [height, widest, kind, lowest, where]),
            (_widen, (most_spans, stretches), [widest]),
        )
    ]
    for number in range(count):
        for command in commands:
            command.set_param_at_index(0, number)
            command.launch()


@wp.kernel
def _look(
    number: wp.int32,
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    height: wp.array[wp.int32],
    widest: wp.array[wp.int32],
    everywhere: wp.array[wp.int32],
    kind: wp.array2d[wp.int32],
    lowest: wp.array[wp.int32],
) -> None:
    """Best is the place with the lowest end, then turn, then column, as one number."""
    turn, y, stretch = wp.tid()
    if y > height[0]:
        return
    chart = order[number]
    shape = turn * order.shape[0] + chart
    end = y + size[shape, 1]
    if end > int(best[number] >> wp.int64(32)):
        return
    if everywhere[number] == 0 and y < lowest[kind[turn, chart]]:
        return
    begin = first[turn, chart]
    for span in range(begin, wp.min(begin + 8, past[turn, chart])):
        if widest[y + spans[span, 0]] < spans[span, 2]:
            return
    x = stretch * wp.static(STRETCH)
    past_x = wp.min(x + wp.static(STRETCH), free.shape[1] - size[shape, 0] + 1)
    while x < past_x:
        jump = blocked(spans, begin, past[turn, chart], free, x, y)
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
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    height: wp.array[wp.int32],
    widest: wp.array[wp.int32],
    kind: wp.array2d[wp.int32],
    lowest: wp.array[wp.int32],
    where: wp.array2d[wp.int32],
) -> None:
    """Each span's cells, and the free ones before it back to its chart's span before; each is written by one thread."""
    index, lane = wp.tid()
    chart = order[number]
    end = int(best[number] >> wp.int64(32))
    turn = int(best[number] >> wp.int64(16)) & 0xFFFF
    x = int(best[number]) & 0xFFFF
    y = end - size[turn * order.shape[0] + chart, 1]
    if index + lane == 0:
        where[chart, 0] = x
        where[chart, 1] = y
        where[chart, 2] = turn
        height[0] = wp.max(height[0], end)
        for other in range(first.shape[0]):
            lowest[kind[other, chart]] = end - size[other * order.shape[0] + chart, 1]
    span = first[turn, chart] + index
    if span >= past[turn, chart]:
        return
    row = y + spans[span, 0]
    begin = x + spans[span, 1]
    after = begin + spans[span, 2]
    before = int(0)
    if spans[span, 3] >= 0:
        before = x + spans[span, 3]
    widest[row] = 0  # until _widen has found it
    cell = after - 1 - lane
    while cell >= before:
        if cell >= begin:
            free[row, cell] = wp.int16(cell - after)
        elif cell + int(free[row, cell]) >= begin:
            free[row, cell] = wp.int16(begin - cell)
        else:
            cell = -1  # the free cells that led up to the span end here
        cell -= wp.static(LANES)


@wp.kernel
def _widen(
    number: wp.int32,
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    widest: wp.array[wp.int32],
) -> None:
    """The longest run of free cells in each row where something was taken."""
    index, stretch = wp.tid()
    chart = order[number]
    turn = int(best[number] >> wp.int64(16)) & 0xFFFF
    span = first[turn, chart] + index
    if span >= past[turn, chart]:
        return
    row = int(best[number] >> wp.int64(32)) - size[turn * order.shape[0] + chart, 1] + spans[span, 0]
    longest = int(0)
    cell = stretch * wp.static(STRETCH)
    past_cell = wp.min(cell + wp.static(STRETCH), free.shape[1])
    while cell < past_cell:
        longest = wp.max(longest, int(free[row, cell]))
        cell += wp.abs(int(free[row, cell]))
    wp.atomic_max(widest, row, longest)
