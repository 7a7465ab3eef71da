"""Place charts in the square, bottom-left first fit: at the lowest row where each fits, in the best of four rotations.

Charts are lists of spans (see `chart_cells`) on a grid of cells. The grid stores for each cell how many
free cells follow it in its row, itself included; in an occupied cell the negative number of occupied cells that
follow, or fewer. A chart fits where each of its spans is followed by enough free cells; where one is not, the search
jumps past the obstacle. Holes inside of charts and between them are filled like any other space.

Thousands of small charts would fail at the same full rows again and again. So beyond the first FULL_SEARCHES, a chart
starts at the row where the last chart of its size class, as wide and as tall, was placed; every FULL_SEARCH_EVERY-th
still searches everywhere.

The CPU tries one position after the other in one kernel. A GPU searches all rows in parallel, in three launches per
chart, and finds the same positions.
"""

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.uv.chart_cells import Spans

Ints = NDArray[np.int64]

FULL_SEARCHES = 512
FULL_SEARCH_EVERY = 8
CHECKED_SPANS = wp.constant(8)  # of a chart, the longest first, whose rows must have so long a run of free cells
STRETCH = wp.constant(32)  # cells of a row for each thread of the GPU
LANES = wp.constant(32)  # threads that occupy the cells of one span on the GPU
NOT_PLACED = 2**62
SEARCHED_ROWS = wp.constant(512)  # that the GPU searches at once
GRAPH_CHARTS = 32  # that one CUDA graph places


def place_charts(shapes: Spans, order: Ints, cells: int, *, parallel: bool | None = None) -> Ints:
    """Return each chart's column, row and rotation; int64 [charts, 3].

    Args:
        order: int64 [charts], the chart to place first, and so on.
        cells: width of the square. Its height is not limited.
        parallel: search all rows at once; by default on a GPU.
    """
    device, sizes = shapes.spans.device, shapes.sizes
    past = shapes.ends
    first = np.r_[0, past.ravel()[:-1]].reshape(past.shape)
    # Sizes are of one class if the logarithms of width and height are equal, in steps of half a power of two.
    size_class = np.unique((2 * np.log2(sizes)).astype(np.int64) @ [64, 1], return_inverse=True)[1].reshape(past.shape)
    full_search = np.arange(len(order)) < FULL_SEARCHES
    full_search[::FULL_SEARCH_EVERY] = True
    rows = 4 * cells + int(sizes.max())
    free = wp.array(np.tile(np.arange(cells, 0, -1, dtype=np.int16), (rows, 1)), dtype=wp.int16, device=device)
    longest_run = wp.full(rows, cells, dtype=wp.int32, device=device)
    lowest_row = wp.zeros(int(size_class.max()) + 1, dtype=wp.int32, device=device)
    position = wp.zeros((len(order), 3), dtype=wp.int32, device=device)
    inputs = [to_int32(each, device) for each in (order, full_search, sizes.reshape(-1, 2), first, past, size_class)]
    inputs += [shapes.spans, free, longest_run, lowest_row]
    if parallel or (parallel is None and device.is_cuda):
        _place_in_parallel(inputs, position, most_spans=int((past - first).max()))
    else:
        wp.launch(_place_serially, dim=1, inputs=[*inputs, position], device=device)
    positions: NDArray[np.int32] = position.numpy()
    return positions.astype(np.int64)


def _place_in_parallel(inputs: list[wp.array], position: wp.array, *, most_spans: int) -> None:
    """Place the charts one after the other, each with three launches. most_spans: of any chart."""
    order, full_search, size, first, past, size_class, spans, free, longest_run, lowest_row = inputs
    device, count, cells = position.device, len(order), free.shape[1]
    best = wp.full(count, NOT_PLACED, dtype=wp.int64, device=device)
    height = wp.zeros(1, dtype=wp.int32, device=device)
    number = wp.zeros(2, dtype=wp.int32, device=device)  # of the chart to place next, for alternate kernels
    shapes, stretches, classes = [order, size, first, past, spans], -(-cells // STRETCH), [size_class, lowest_row]
    launches = (
        (_search, (first.shape[0], SEARCHED_ROWS, stretches), [height, longest_run, full_search, *classes]),
        (_occupy, (most_spans, LANES), [height, longest_run, *classes, position]),
        (_measure_runs, (most_spans, stretches), [longest_run]),
    )

    def place_charts_in_turn(charts: int) -> None:
        for kernel, dim, more in launches * charts:
            wp.launch(kernel, dim=dim, inputs=[number, *shapes, best, free, *more], device=device)

    if device.is_cpu:
        place_charts_in_turn(count)
        return
    # A graph replays many launches as one: it costs less than Python needs for a launch.
    with wp.ScopedCapture(device=device) as capture:
        place_charts_in_turn(GRAPH_CHARTS)
    for _ in range(-(-count // GRAPH_CHARTS)):
        wp.capture_launch(capture.graph)


@wp.func
def _jump(
    spans: wp.array2d[wp.int32], first: wp.int32, past: wp.int32, free: wp.array2d[wp.int16], x: wp.int32, y: wp.int32
) -> wp.int32:
    """Return 0 if the chart fits at (x, y), else how many columns to move right: past the obstacle."""
    for span in range(first, past):
        row = y + spans[span, 0]
        begin = x + spans[span, 1]
        follows = int(free[row, begin])
        # The span's first cell is occupied: move it past the occupied cells.
        if follows < 0:
            return -follows
        # The free cells are too few: move the span's first cell past the occupied cells after them.
        if follows < spans[span, 2]:
            return follows - int(free[row, begin + follows])
    return 0


@wp.func
def _recount(free: wp.array2d[wp.int16], row: wp.int32, begin: wp.int32, past: wp.int32) -> wp.int32:
    """Count again the cells that follow each cell of an occupied span, and of the cells before it."""
    run = int(0)
    if past < free.shape[1]:
        run = int(free[row, past])
    cell = past - 1
    while cell >= 0:
        # Continue the run of free or of occupied cells, or begin a new one.
        if free[row, cell] > wp.int16(0):
            run = wp.max(run, 0) + 1
        else:
            run = wp.min(run, 0) - 1
        # Before the span, an unchanged count means that all others are unchanged.
        if cell < begin and int(free[row, cell]) == run:
            return cell
        free[row, cell] = wp.int16(run)
        cell -= 1
    return cell


@wp.func
def _longest_run(free: wp.array2d[wp.int16], row: wp.int32, begin: wp.int32, past: wp.int32) -> wp.int32:
    """Return the longest run of free cells at `begin` or after it in a row, among the runs that begin before `past`."""
    # Jump from run to run.
    longest = int(0)
    cell = begin
    while cell < past:
        longest = wp.max(longest, int(free[row, cell]))
        cell += wp.abs(int(free[row, cell]))
    return longest


@wp.func
def _occupy_serially(
    spans: wp.array2d[wp.int32],
    first: wp.int32,
    past: wp.int32,
    free: wp.array2d[wp.int16],
    longest_run: wp.array[wp.int32],
    x: wp.int32,
    y: wp.int32,
) -> wp.int32:
    """Mark the chart's cells as occupied and count its rows again."""
    for span in range(first, past):
        row = y + spans[span, 0]
        begin = x + spans[span, 1]
        for cell in range(begin, begin + spans[span, 2]):
            free[row, cell] = wp.int16(-1)
    for span in range(first, past):
        _recount(free, y + spans[span, 0], x + spans[span, 1], x + spans[span, 1] + spans[span, 2])
    for span in range(first, past):
        longest_run[y + spans[span, 0]] = _longest_run(free, y + spans[span, 0], 0, free.shape[1])
    return 0


@wp.kernel
def _place_serially(
    order: wp.array[wp.int32],
    full_search: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    size_class: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    free: wp.array2d[wp.int16],
    longest_run: wp.array[wp.int32],
    lowest_row: wp.array[wp.int32],
    position: wp.array2d[wp.int32],
) -> None:
    """Place all charts in one thread. size: int32 [rotations * charts, 2]."""
    count = order.shape[0]
    cells = free.shape[1]
    for number in range(count):
        chart = order[number]
        best_end = int(1 << 30)
        for rotation in range(first.shape[0]):
            width = size[rotation * count + chart, 0]
            height = size[rotation * count + chart, 1]
            # Search upwards, as long as the chart would end lower than in the best position so far.
            y = int(0)
            if full_search[number] == 0:
                y = lowest_row[size_class[rotation, chart]]
            while y + height < best_end and y + height <= free.shape[0]:
                # Skip the row if one of the longest spans fits nowhere in its row.
                x = int(0)
                for span in range(
                    first[rotation, chart], wp.min(first[rotation, chart] + CHECKED_SPANS, past[rotation, chart])
                ):
                    if longest_run[y + spans[span, 0]] < spans[span, 2]:
                        x = cells
                # Jump from obstacle to obstacle.
                while x + width <= cells:
                    jump = _jump(spans, first[rotation, chart], past[rotation, chart], free, x, y)
                    if jump == 0:
                        best_end = y + height
                        position[chart, 0] = x
                        position[chart, 1] = y
                        position[chart, 2] = rotation
                        x = cells
                    x += jump
                y += 1
        # Store where the next chart of these size classes begins, and occupy the cells.
        for rotation in range(first.shape[0]):
            lowest_row[size_class[rotation, chart]] = wp.max(best_end - size[rotation * count + chart, 1], 0)
        rotation = position[chart, 2]
        _occupy_serially(
            spans,
            first[rotation, chart],
            past[rotation, chart],
            free,
            longest_run,
            position[chart, 0],
            position[chart, 1],
        )


@wp.kernel
def _search(
    numbers: wp.array[wp.int32],
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    height: wp.array[wp.int32],
    longest_run: wp.array[wp.int32],
    full_search: wp.array[wp.int32],
    size_class: wp.array2d[wp.int32],
    lowest_row: wp.array[wp.int32],
) -> None:
    """Find the position with the lowest end, then rotation, then column: the minimum of these as one number."""
    # Each thread searches STRETCH columns of every SEARCHED_ROWS-th row, in one rotation.
    rotation, row, stretch = wp.tid()
    number = numbers[0]
    if number >= order.shape[0]:
        return
    chart = order[number]
    shape = rotation * order.shape[0] + chart
    begin = first[rotation, chart]
    y = int(row)
    if full_search[number] == 0:
        y += lowest_row[size_class[rotation, chart]]
    # Rows above the used height are free. Stop also if another thread has found a lower position.
    while y <= height[0] and y + size[shape, 1] <= int(best[number] >> wp.int64(32)):
        # Skip the row if one of the longest spans fits nowhere in its row.
        x = stretch * STRETCH
        past_x = wp.min(x + STRETCH, free.shape[1] - size[shape, 0] + 1)
        for span in range(begin, wp.min(begin + CHECKED_SPANS, past[rotation, chart])):
            if longest_run[y + spans[span, 0]] < spans[span, 2]:
                x = past_x
        # Jump from obstacle to obstacle.
        while x < past_x:
            jump = _jump(spans, begin, past[rotation, chart], free, x, y)
            if jump == 0:
                end = y + size[shape, 1]
                wp.atomic_min(best, number, (wp.int64(end) << wp.int64(32)) | wp.int64((rotation << 16) | x))
                return
            x += jump
        y += SEARCHED_ROWS


@wp.kernel
def _occupy(
    numbers: wp.array[wp.int32],
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    height: wp.array[wp.int32],
    longest_run: wp.array[wp.int32],
    size_class: wp.array2d[wp.int32],
    lowest_row: wp.array[wp.int32],
    position: wp.array2d[wp.int32],
) -> None:
    """Occupy the cells of each span, and count the free cells before it again; each cell is written by one thread."""
    # Decode the position.
    index, lane = wp.tid()
    number = numbers[0]
    if number >= order.shape[0]:
        return
    chart = order[number]
    end = int(best[number] >> wp.int64(32))
    rotation = int(best[number] >> wp.int64(16)) & 0xFFFF
    x = int(best[number]) & 0xFFFF
    y = end - size[rotation * order.shape[0] + chart, 1]
    # One thread stores it, and where the next chart of these size classes begins.
    if index + lane == 0:
        position[chart, 0] = x
        position[chart, 1] = y
        position[chart, 2] = rotation
        height[0] = wp.max(height[0], end)
        numbers[1] = number
        for each in range(first.shape[0]):
            lowest_row[size_class[each, chart]] = end - size[each * order.shape[0] + chart, 1]
    # Find this thread's span, and where the chart's span before it in the same row ends.
    span = first[rotation, chart] + index
    if span >= past[rotation, chart]:
        return
    row = y + spans[span, 0]
    begin = x + spans[span, 1]
    after = begin + spans[span, 2]
    before = int(0)
    if spans[span, 3] >= 0:
        before = x + spans[span, 3]
    longest_run[row] = 0  # `_measure_runs` computes it
    # Write the span's cells from the right, then the free cells that lead up to the span.
    cell = after - 1 - lane
    while cell >= before:
        if cell >= begin:
            free[row, cell] = wp.int16(cell - after)
        elif cell + int(free[row, cell]) >= begin:
            free[row, cell] = wp.int16(begin - cell)
        else:
            cell = -1
        cell -= LANES


@wp.kernel
def _measure_runs(
    numbers: wp.array[wp.int32],
    order: wp.array[wp.int32],
    size: wp.array2d[wp.int32],
    first: wp.array2d[wp.int32],
    past: wp.array2d[wp.int32],
    spans: wp.array2d[wp.int32],
    best: wp.array[wp.int64],
    free: wp.array2d[wp.int16],
    longest_run: wp.array[wp.int32],
) -> None:
    """Find the longest run of free cells in each row where cells were occupied."""
    # One thread counts the chart as placed.
    index, stretch = wp.tid()
    number = numbers[1]
    if index + stretch == 0:
        numbers[0] = number + 1
    # Find the row of this thread's span.
    chart = order[number]
    rotation = int(best[number] >> wp.int64(16)) & 0xFFFF
    span = first[rotation, chart] + index
    if span >= past[rotation, chart]:
        return
    row = int(best[number] >> wp.int64(32)) - size[rotation * order.shape[0] + chart, 1] + spans[span, 0]
    # Measure the runs in STRETCH columns.
    begin = stretch * STRETCH
    wp.atomic_max(longest_run, row, _longest_run(free, row, begin, wp.min(begin + STRETCH, free.shape[1])))
