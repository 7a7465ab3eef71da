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

from typing import Any

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
NOWHERE = wp.constant(2**30)  # the end of a chart that fits in no row
SEARCHED_ROWS = wp.constant(512)  # that the GPU searches at once
GRAPH_CHARTS = 32  # that one CUDA graph places


@wp.struct
class _Search:
    """The charts, and the grid with those that are placed.

    order: [charts]. full_search: [charts], by number in the order, whether to search all rows. sizes: [rotations *
    charts, 2], cells across and down. first, past, size_class: [rotations, charts]. spans: [spans, 4]. free: [rows,
    cells]. longest_run: [rows], of free cells. lowest_row: [size classes]. position: [charts, 3], column, row and
    rotation. Only the parallel search uses the rest. best: [charts], by number in the order, the lowest end, rotation
    and column found so far. height: [1], rows in use. number: [2], of the chart to place next, for alternate kernels.
    """

    order: wp.array[wp.int32]
    full_search: wp.array[wp.int32]
    sizes: wp.array2d[wp.int32]
    first: wp.array2d[wp.int32]
    past: wp.array2d[wp.int32]
    size_class: wp.array2d[wp.int32]
    spans: wp.array2d[wp.int32]
    free: wp.array2d[wp.int16]
    longest_run: wp.array[wp.int32]
    lowest_row: wp.array[wp.int32]
    position: wp.array2d[wp.int32]
    best: wp.array[wp.int64]
    height: wp.array[wp.int32]
    number: wp.array[wp.int32]


def place_charts(shapes: Spans, order: Ints, cells: int, *, parallel: bool | None = None) -> Ints:
    """Return each chart's column, row and rotation; int64 [charts, 3].

    Args:
        order: int64 [charts], the chart to place first, and so on.
        cells: width of the square. Its height is not limited.
        parallel: search all rows at once; by default on a GPU.
    """
    device, sizes, past = shapes.spans.device, shapes.sizes, shapes.ends
    full_search = np.arange(len(order)) < FULL_SEARCHES
    full_search[::FULL_SEARCH_EVERY] = True
    # Sizes are of one class if the logarithms of width and height are equal, in steps of half a power of two.
    size_class = np.unique((2 * np.log2(sizes)).astype(np.int64) @ [64, 1], return_inverse=True)[1].reshape(past.shape)
    rows = 4 * cells + int(sizes.max())
    search = _Search()
    search.order = to_int32(order, device)
    search.full_search = to_int32(full_search, device)
    search.sizes = to_int32(sizes.reshape(-1, 2), device)
    search.first = to_int32(np.r_[0, past.ravel()[:-1]].reshape(past.shape), device)
    search.past = to_int32(past, device)
    search.size_class = to_int32(size_class, device)
    search.spans = shapes.spans
    search.free = wp.array(np.tile(np.arange(cells, 0, -1, dtype=np.int16), (rows, 1)), dtype=wp.int16, device=device)
    search.longest_run = wp.full(rows, cells, dtype=wp.int32, device=device)
    search.lowest_row = wp.zeros(int(size_class.max()) + 1, dtype=wp.int32, device=device)
    search.position = wp.zeros((len(order), 3), dtype=wp.int32, device=device)
    search.best = wp.full(len(order), NOWHERE << 32, dtype=wp.int64, device=device)
    search.height = wp.zeros(1, dtype=wp.int32, device=device)
    search.number = wp.zeros(2, dtype=wp.int32, device=device)
    if parallel or (parallel is None and device.is_cuda):
        _place_in_parallel(search, device, most_spans=int(np.diff(past.ravel(), prepend=0).max()))
    else:
        wp.launch(_place_serially, dim=1, inputs=[search], device=device)
    positions: NDArray[np.int32] = search.position.numpy()
    return positions.astype(np.int64)


def _place_in_parallel(search: _Search, device: Any, *, most_spans: int) -> None:
    """Place the charts one after the other, each with three launches. most_spans: of any chart."""
    count, stretches = len(search.order), -(-search.free.shape[1] // STRETCH)
    launches = (
        (_search_rows, (search.first.shape[0], SEARCHED_ROWS, stretches)),
        (_occupy, (most_spans, LANES)),
        (_measure_runs, (most_spans, stretches)),
    )

    def place_charts_in_turn(charts: int) -> None:
        for kernel, dim in launches * charts:
            wp.launch(kernel, dim=dim, inputs=[search], device=device)

    if device.is_cpu:
        place_charts_in_turn(count)
        return
    # A graph replays many launches as one: it costs less than Python needs for a launch.
    with wp.ScopedCapture(device=device) as capture:
        place_charts_in_turn(GRAPH_CHARTS)
    for _ in range(-(-count // GRAPH_CHARTS)):
        wp.capture_launch(capture.graph)


@wp.func
def _may_fit(search: _Search, begin: wp.int32, past: wp.int32, y: wp.int32) -> wp.bool:
    """Return whether each of a shape's longest spans is at most as long as the longest free run of its row."""
    for span in range(begin, wp.min(begin + CHECKED_SPANS, past)):
        if search.longest_run[y + search.spans[span, 0]] < search.spans[span, 2]:
            return False
    return True


@wp.func
def _jump(search: _Search, begin: wp.int32, past: wp.int32, x: wp.int32, y: wp.int32) -> wp.int32:
    """Return 0 if the shape fits at (x, y), else how many columns to move right: past the obstacle."""
    for span in range(begin, past):
        row = y + search.spans[span, 0]
        column = x + search.spans[span, 1]
        follows = int(search.free[row, column])
        # The span's first cell is occupied: move it past the occupied cells.
        if follows < 0:
            return -follows
        # The free cells are too few: move the span's first cell past the occupied cells after them.
        if follows < search.spans[span, 2]:
            return follows - int(search.free[row, column + follows])
    return 0


@wp.func
def _store(search: _Search, chart: wp.int32, x: wp.int32, end: wp.int32, rotation: wp.int32) -> wp.int32:
    """Store a chart's position, and where the next chart of its size classes begins; return its row."""
    for each in range(search.first.shape[0]):
        height = search.sizes[each * search.order.shape[0] + chart, 1]
        search.lowest_row[search.size_class[each, chart]] = wp.max(end - height, 0)
    search.position[chart, 0] = x
    search.position[chart, 1] = end - search.sizes[rotation * search.order.shape[0] + chart, 1]
    search.position[chart, 2] = rotation
    return search.position[chart, 1]


@wp.func
def _occupy_span(search: _Search, span: wp.int32, x: wp.int32, y: wp.int32, lane: wp.int32, lanes: wp.int32) -> None:
    """Occupy a span's cells, and count the free cells before it again; every `lanes`-th cell, from the right."""
    row = y + search.spans[span, 0]
    begin = x + search.spans[span, 1]
    past = begin + search.spans[span, 2]
    # Another span of the shape in this row ends the free cells that lead up to this one.
    before = int(0)
    if search.spans[span, 3] >= 0:
        before = x + search.spans[span, 3]
    cell = past - 1 - lane
    while cell >= before:
        if cell >= begin:
            search.free[row, cell] = wp.int16(cell - past)
        elif cell + int(search.free[row, cell]) >= begin:
            search.free[row, cell] = wp.int16(begin - cell)
        else:
            cell = -1
        cell -= lanes


@wp.func
def _longest_run(search: _Search, row: wp.int32, begin: wp.int32, past: wp.int32) -> wp.int32:
    """Return the longest run of free cells that begins in these columns of a row."""
    longest = int(0)
    cell = begin
    while cell < past:
        run = int(search.free[row, cell])
        longest = wp.max(longest, run)
        cell += wp.abs(run)
    return longest


@wp.kernel
def _place_serially(search: _Search) -> None:
    """Place all charts in one thread."""
    count = search.order.shape[0]
    cells = search.free.shape[1]
    for number in range(count):
        chart = search.order[number]
        best_end = int(NOWHERE)
        best_x = int(0)
        best_rotation = int(0)
        for rotation in range(search.first.shape[0]):
            begin = search.first[rotation, chart]
            past = search.past[rotation, chart]
            width = search.sizes[rotation * count + chart, 0]
            height = search.sizes[rotation * count + chart, 1]
            # Search upwards, as long as the chart would end lower than in the best position so far.
            y = int(0)
            if search.full_search[number] == 0:
                y = search.lowest_row[search.size_class[rotation, chart]]
            while y + height < best_end and y + height <= search.free.shape[0]:
                # Jump from obstacle to obstacle, unless one of the longest spans fits nowhere in its row.
                x = int(0)
                if not _may_fit(search, begin, past, y):
                    x = cells
                while x + width <= cells:
                    jump = _jump(search, begin, past, x, y)
                    if jump == 0:
                        best_end = y + height
                        best_x = x
                        best_rotation = rotation
                        x = cells
                    x += jump
                y += 1
        # Occupy the cells; a chart that fits nowhere stays at zero.
        if best_end < NOWHERE:
            y = _store(search, chart, best_x, best_end, best_rotation)
            begin = search.first[best_rotation, chart]
            past = search.past[best_rotation, chart]
            for span in range(begin, past):
                _occupy_span(search, span, best_x, y, 0, 1)
            for span in range(begin, past):
                row = y + search.spans[span, 0]
                search.longest_run[row] = _longest_run(search, row, 0, cells)


@wp.kernel
def _search_rows(search: _Search) -> None:
    """Find the position with the lowest end, then rotation, then column: the minimum of these as one number."""
    # Each thread searches STRETCH columns of every SEARCHED_ROWS-th row, in one rotation.
    rotation, row, stretch = wp.tid()
    number = search.number[0]
    if number >= search.order.shape[0]:
        return
    chart = search.order[number]
    shape = rotation * search.order.shape[0] + chart
    begin = search.first[rotation, chart]
    past = search.past[rotation, chart]
    y = int(row)
    if search.full_search[number] == 0:
        y += search.lowest_row[search.size_class[rotation, chart]]
    # Rows above the used height are free. Stop also if another thread has found a lower position.
    while y <= search.height[0] and y + search.sizes[shape, 1] <= int(search.best[number] >> wp.int64(32)):
        # Jump from obstacle to obstacle, unless one of the longest spans fits nowhere in its row.
        x = stretch * STRETCH
        past_x = wp.min(x + STRETCH, search.free.shape[1] - search.sizes[shape, 0] + 1)
        if not _may_fit(search, begin, past, y):
            x = past_x
        while x < past_x:
            jump = _jump(search, begin, past, x, y)
            if jump == 0:
                end = y + search.sizes[shape, 1]
                wp.atomic_min(search.best, number, (wp.int64(end) << wp.int64(32)) | wp.int64((rotation << 16) | x))
                return
            x += jump
        y += SEARCHED_ROWS


@wp.kernel
def _occupy(search: _Search) -> None:
    """Occupy the cells of each span of the chart; each cell is written by one thread."""
    # Decode the position.
    index, lane = wp.tid()
    number = search.number[0]
    if number >= search.order.shape[0]:
        return
    chart = search.order[number]
    end = int(search.best[number] >> wp.int64(32))
    rotation = int(search.best[number] >> wp.int64(16)) & 0xFFFF
    x = int(search.best[number]) & 0xFFFF
    if index + lane == 0:
        search.number[1] = number
    # A chart that fits nowhere stays at zero.
    if end >= NOWHERE:
        return
    # One thread stores the position.
    if index + lane == 0:
        _store(search, chart, x, end, rotation)
        search.height[0] = wp.max(search.height[0], end)
    # Occupy this thread's part of its span.
    span = search.first[rotation, chart] + index
    if span < search.past[rotation, chart]:
        y = end - search.sizes[rotation * search.order.shape[0] + chart, 1]
        search.longest_run[y + search.spans[span, 0]] = 0  # `_measure_runs` computes it
        _occupy_span(search, span, x, y, lane, LANES)


@wp.kernel
def _measure_runs(search: _Search) -> None:
    """Find the longest run of free cells in each row where cells were occupied."""
    # One thread counts the chart as placed.
    index, stretch = wp.tid()
    number = search.number[1]
    if index + stretch == 0:
        search.number[0] = number + 1
    # Find the row of this thread's span, and measure the runs in STRETCH columns.
    chart = search.order[number]
    rotation = search.position[chart, 2]
    span = search.first[rotation, chart] + index
    if span < search.past[rotation, chart]:
        row = search.position[chart, 1] + search.spans[span, 0]
        begin = stretch * STRETCH
        past = wp.min(begin + STRETCH, search.free.shape[1])
        wp.atomic_max(search.longest_run, row, _longest_run(search, row, begin, past))
