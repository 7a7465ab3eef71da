"""Find the grid cells that charts touch, in one or in four rotations, as spans: runs of cells in a row.

Each chart in each rotation is a shape with a bitmap of its own; all bitmaps are stored one after the other. The cells
within the gap to the right of and below a touched cell count as touched, so that charts placed side by side keep their
distance.
"""

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LONGEST = wp.constant(2**16 - 1)  # cells of the longest span that a sort key can hold


@dataclass(frozen=True, slots=True)
class ChartPoints:
    """Charts in the plane, and their triangles on the device.

    points: float64 [points, 2], sorted by chart. low, high: float64 [charts, 2], each chart's box. faces: int32
    [faces, 3] and chart: int32 [faces], on the device.
    """

    points: Floats
    low: Floats
    high: Floats
    faces: wp.array
    chart: wp.array

    def measure_extent(self, scale: float) -> Floats:
        """Return the size of each chart's box; float64 [charts, 2]."""
        extent: Floats = self.high * scale - self.low * scale
        return extent


@dataclass(frozen=True, slots=True)
class Spans:
    """The touched cells of all shapes, rotation by rotation.

    sizes: int64 [rotations, charts, 2], cells across and down. spans: int32 [spans, 4] on the device: row, first cell,
    length, and where the shape's span before it in its row ends, or -1; a shape's longest span comes first, since it
    is the least likely to fit. ends: int64 [rotations, charts], where each shape's spans end. cells: number of touched
    cells in one rotation.
    """

    sizes: Ints
    spans: wp.array
    ends: Ints
    cells: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of all bitmaps; each array but `touched` and `sizes` is int32 on the device.

    sizes: as in `Spans`. touched: uint8 [cells], every row followed by an empty cell. row_ends: [shapes], rows up to
    and with the shape's. starts, strides: [shapes], the shape's first cell, and cells from one row to the next. counts:
    [rows], number of spans. cells: [shapes], number of touched cells.
    """

    sizes: Ints
    touched: wp.array
    row_ends: wp.array
    starts: wp.array
    strides: wp.array
    counts: wp.array
    cells: wp.array


def count_cells(charts: ChartPoints, scale: float, gap_cells: int) -> int:
    """Return how many cells all charts touch at a scale."""
    return int(_mark_rows(charts, scale, gap_cells, rotations=1).cells.numpy().sum())


def find_spans(charts: ChartPoints, scale: float, gap_cells: int, rotations: int) -> Spans:
    """Find the cells that each chart touches at a scale, rotated by 0, 90, 180 and 270 degrees clockwise."""
    rows = _mark_rows(charts, scale, gap_cells, rotations)
    device = rows.touched.device
    wp.utils.array_scan(rows.counts, rows.counts, inclusive=True)
    ends = rows.counts.numpy()[rows.row_ends.numpy() - 1].astype(np.int64)
    count = int(ends[-1])
    # List the spans in the order of their cells, then sort each shape's by length.
    listed = wp.empty((count, 4), dtype=wp.int32, device=device)
    keys = wp.empty(2 * count, dtype=wp.int64, device=device)  # twice as many: the sort needs a second buffer
    order = wp.empty(2 * count, dtype=wp.int32, device=device)
    inputs = [rows.touched, rows.row_ends, rows.starts, rows.strides, rows.counts, listed, keys, order]
    wp.launch(_list_spans, dim=len(rows.counts), inputs=inputs, device=device)
    wp.utils.radix_sort_pairs(keys, order, count, end_bit=16 + len(ends).bit_length())
    spans = wp.empty_like(listed)
    wp.launch(_reorder, dim=count, inputs=[listed, order, spans], device=device)
    cells = int(rows.cells.numpy()[: len(charts.low)].sum())
    return Spans(rows.sizes, spans, ends.reshape(rotations, -1), cells)


def _mark_rows(charts: ChartPoints, scale: float, gap_cells: int, rotations: int) -> _Rows:
    """Mark the touched cells, and count the spans and the cells."""
    device = charts.faces.device
    extent, low, high = charts.measure_extent(scale), charts.low * scale, charts.high * scale
    extents = np.stack([extent, extent[:, ::-1], extent, extent[:, ::-1]])[:rotations]
    # The rotated points' lowest coordinates: of (x, y), (y, -x), (-x, -y) and (-y, x).
    x, y = np.stack([low, -high], axis=2).transpose(1, 2, 0)
    lows = np.stack([[x[0], y[0]], [y[0], x[1]], [x[1], y[1]], [y[1], x[0]]])[:rotations].transpose(0, 2, 1)
    sizes = np.floor(extents).astype(np.int64) + 1 + gap_cells
    width, height = sizes.reshape(-1, 2).T
    strides = width + 1  # an empty cell ends every row
    past = np.cumsum(strides * height)
    row_ends, starts = np.cumsum(height), np.r_[0, past[:-1]]
    rows = _Rows(
        sizes,
        touched=wp.zeros(int(past[-1]), dtype=wp.uint8, device=device),
        row_ends=to_int32(row_ends, device),
        starts=to_int32(starts, device),
        strides=to_int32(strides, device),
        counts=wp.empty(int(row_ends[-1]), dtype=wp.int32, device=device),
        cells=wp.zeros(len(starts), dtype=wp.int32, device=device),
    )
    points = wp.array(charts.points * scale, dtype=wp.vec2d, device=device)
    corners = wp.array(lows.reshape(-1, 2), dtype=wp.vec2d, device=device)
    shapes = [charts.faces, charts.chart, len(low), corners, rows.starts, rows.strides]
    inputs = [points, *shapes, gap_cells, rows.touched]
    wp.launch(_mark_cells, dim=(rotations, len(charts.chart)), inputs=inputs, device=device)
    inputs = [rows.touched, rows.row_ends, rows.starts, rows.strides, rows.counts, rows.cells]
    wp.launch(_count_spans, dim=len(rows.counts), inputs=inputs, device=device)
    return rows


@wp.func
def _place_corner(point: wp.vec2d, rotation: wp.int32, low: wp.vec2d) -> wp.vec2:
    """Rotate a corner by quarter turns clockwise, and move it so that its chart begins at zero."""
    turned = point
    if rotation == 1:
        turned = wp.vec2d(point[1], -point[0])
    elif rotation == 2:
        turned = -point
    elif rotation == 3:
        turned = wp.vec2d(-point[1], point[0])
    moved = turned - low
    return wp.vec2(wp.float32(moved[0]), wp.float32(moved[1]))


@wp.func
def _separates(a: wp.vec2, b: wp.vec2, c: wp.vec2, x: wp.float32, y: wp.float32) -> wp.bool:
    """Return whether edge a-b has corner c on one side and the whole unit cell at (x, y) on the other."""
    # Turn the edge's normal towards c, then test the cell's corner that is farthest in its direction.
    normal = wp.vec2(a[1] - b[1], b[0] - a[0])
    if wp.dot(normal, c - a) < 0.0:
        normal = -normal
    farthest = wp.vec2(x + wp.where(normal[0] > 0.0, 1.0, 0.0), y + wp.where(normal[1] > 0.0, 1.0, 0.0))
    return wp.dot(normal, farthest - a) < 0.0


@wp.kernel
def _mark_cells(
    points: wp.array[wp.vec2d],
    faces: wp.array2d[wp.int32],
    chart: wp.array[wp.int32],
    chart_count: wp.int32,
    lows: wp.array[wp.vec2d],
    starts: wp.array[wp.int32],
    strides: wp.array[wp.int32],
    gap: wp.int32,
    touched: wp.array[wp.uint8],
) -> None:
    """Mark the cells that a face touches, by the separating axis theorem, and the gap to their right and below."""
    # Load the face in its rotation, and find its shape's bitmap.
    rotation, face = wp.tid()
    shape = rotation * chart_count + chart[face]
    a = _place_corner(points[faces[face, 0]], rotation, lows[shape])
    b = _place_corner(points[faces[face, 1]], rotation, lows[shape])
    c = _place_corner(points[faces[face, 2]], rotation, lows[shape])
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    base = starts[shape]
    width = strides[shape]
    # Test each cell of the face's box: none of the three edges may separate it from the face.
    for y in range(int(low[1]), int(high[1]) + 1):
        for x in range(int(low[0]), int(high[0]) + 1):
            u = float(x)
            v = float(y)
            if not (_separates(a, b, c, u, v) or _separates(b, c, a, u, v) or _separates(c, a, b, u, v)):
                for down in range(gap + 1):
                    for right in range(gap + 1):
                        touched[base + (y + down) * width + x + right] = wp.uint8(1)


@wp.func
def _find_row(row: wp.int32, shape: wp.int32, row_ends: wp.array[wp.int32]) -> wp.int32:
    """Return the row's number within its shape."""
    if shape == 0:
        return row
    return row - row_ends[shape - 1]


@wp.kernel
def _count_spans(
    touched: wp.array[wp.uint8],
    row_ends: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    strides: wp.array[wp.int32],
    counts: wp.array[wp.int32],
    cells: wp.array[wp.int32],
) -> None:
    """Count the spans of a row, and its touched cells."""
    # Find the row in the bitmap of its shape.
    row = wp.tid()
    shape = wp.lower_bound(row_ends, row + 1)
    begin = starts[shape] + _find_row(row, shape, row_ends) * strides[shape]
    # A span begins at a touched cell after an empty one, or at the row's beginning.
    spans = int(0)
    filled = int(0)
    before = int(0)
    for cell in range(begin, begin + strides[shape]):
        now = int(touched[cell])
        spans += now * (1 - before)
        filled += now
        before = now
    counts[row] = spans
    wp.atomic_add(cells, shape, filled)


@wp.kernel
def _list_spans(
    touched: wp.array[wp.uint8],
    row_ends: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    strides: wp.array[wp.int32],
    span_ends: wp.array[wp.int32],
    spans: wp.array2d[wp.int32],
    keys: wp.array[wp.int64],
    order: wp.array[wp.int32],
) -> None:
    """Write the spans of a row, and for each a sort key: by shape, then the longest first."""
    # Find the row in the bitmap of its shape, and its first span in the list.
    row = wp.tid()
    shape = wp.lower_bound(row_ends, row + 1)
    y = _find_row(row, shape, row_ends)
    begin = starts[shape] + y * strides[shape]
    span = int(0)
    if row > 0:
        span = span_ends[row - 1]
    # Follow the row; the empty cell at its end closes the last span.
    first = int(-1)
    end_before = int(-1)
    for x in range(strides[shape]):
        if touched[begin + x] != wp.uint8(0):
            if first < 0:
                first = x
        elif first >= 0:
            spans[span, 0] = y
            spans[span, 1] = first
            spans[span, 2] = x - first
            spans[span, 3] = end_before
            keys[span] = (wp.int64(shape) << wp.int64(16)) | wp.int64(LONGEST - (x - first))
            order[span] = span
            span += 1
            end_before = x
            first = -1


@wp.kernel
def _reorder(listed: wp.array2d[wp.int32], order: wp.array[wp.int32], spans: wp.array2d[wp.int32]) -> None:
    span = wp.tid()
    for column in range(4):
        spans[span, column] = listed[order[span], column]
