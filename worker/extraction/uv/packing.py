"""Pack charts into the unit square: rotate each to its smallest box, choose a common scale, and place it on a grid.

The scale follows from how tightly the charts fill a first, coarse grid: at that density they fill the square. If they
would use more of the texture than needed, wider gutters take the space instead, since coarse mip levels then mix the
colours of neighbouring charts less. `placement` finds the positions.
"""

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.mesh.geometry import signed_areas_2d
from worker.extraction.mesh.topology import chart_of_vertex
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.uv.placement import place_charts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROTATIONS = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]], dtype=np.float64)
COARSE_CELLS = 1024  # most cells a side of the first try, which measures the density
TRIES = 4  # most tries after the first
FINE_TRIES = 2  # the same on a finer grid, where each takes four times as long
TARGET_USE = 0.65  # part of the square to use; below it another try follows
SPACIOUS_USE = 0.665  # on a finer grid, above it another try follows with wider gutters
MAX_ANISOTROPY = 0.02  # how much the density of texels along one axis may exceed the other's
FIRST_USE = 0.72  # part of the square that the first try aims for
ENOUGH_USE = 0.645  # above this part, wider gutters are preferred to larger charts


def pack(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    chart: Ints,
    *,
    cells: int,
    gap_cells: int,
    widest_gap_cells: int = 0,
    device: str,
    progress: ProgressCallback,
) -> NDArray[np.float32]:
    """Rotate and move charts, and scale all of them alike, into the unit square; float32 [points, 2].

    Args:
        points: float32 [points, 2], sorted by chart.
        chart: int64 [faces], numbered from 0.
        cells: size of the grid, `cells` x `cells`.
        gap_cells: least distance between charts.
        widest_gap_cells: the distance grows up to this, as long as the texture is used well enough.
    """
    charts = _Charts.from_faces(points, faces, chart, device)
    gaps = range(gap_cells, max(gap_cells, widest_gap_cells) + 1)
    scale, gap_cells = _measure_first_scale(charts, cells, gaps)
    best, best_merit = charts.points, (0.0, 0)  # compared by the used part, up to TARGET_USE, then by the gutter
    tries, spacious = (TRIES, 1.0) if cells <= COARSE_CELLS else (FINE_TRIES, SPACIOUS_USE)
    for number in range(tries):
        progress((1 + number) / (1 + tries))
        placed, height, filled = _try_scale(charts, scale, cells, gap_cells, by_outline=number % 2 == 1)
        fit = _fit_height(height / cells)
        used = charts.area * scale**2 * fit.prod() / cells**2
        if (min(used, TARGET_USE), gap_cells) > best_merit:
            best, best_merit = placed * fit / cells, (min(used, TARGET_USE), gap_cells)
        if TARGET_USE <= used < spacious or number == tries - 1:
            break
        candidates = gaps if used >= TARGET_USE else range(gaps.start, max(gap_cells, gaps.start + 1))
        scale, tried_gap_cells = scale * np.sqrt(cells / height), gap_cells
        density = filled / (height * cells)
        scale, gap_cells = _choose_gap(charts, scale, cells, density, candidates, TARGET_USE)
        if used >= TARGET_USE and gap_cells <= tried_gap_cells:
            break
    return np.clip(best, 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Charts:
    """The charts to pack.

    points: float64 [points, 2], each chart rotated to its smallest box. owner: int64 [points], each point's chart.
    faces: int32 [faces, 3] and chart: int32 [faces], on the device. area: of all charts, in squared units of points.
    """

    points: Floats
    owner: Ints
    faces: wp.array
    chart: wp.array
    area: float

    @classmethod
    def from_faces(cls, points: NDArray[np.float32], faces: NDArray[np.int32], chart: Ints, device: str) -> "_Charts":
        owner = chart_of_vertex(faces, chart, len(points))
        rotated = _rotate_to_smallest_box(points.astype(np.float64), owner)
        area = max(float(np.abs(signed_areas_2d(rotated[faces])).sum()), 1e-30)
        return cls(rotated, owner, to_int32(faces, device), to_int32(chart, device), area)


def _measure_first_scale(charts: _Charts, cells: int, gaps: range) -> tuple[float, int]:
    """Return the scale and the gap to begin with, from the density that a coarse grid reaches."""
    coarse = min(cells, COARSE_CELLS)
    scale = coarse * np.sqrt(FIRST_USE / charts.area)
    _, height, filled = _try_scale(charts, scale, coarse, -(-gaps.start * coarse // cells))
    scale *= np.sqrt(coarse / height) * cells / coarse
    return _choose_gap(charts, scale, cells, filled / (height * coarse), gaps, ENOUGH_USE)


def _choose_gap(
    charts: _Charts, scale: float, cells: int, density: float, gaps: range, enough: float
) -> tuple[float, int]:
    """Return the scale at which the charts fill the square, and the widest gap that leaves enough of it in use.

    density: part of the square that charts and their gaps fill.
    """
    chosen = scale, gaps.start
    for gap_cells in gaps:
        shape = _find_spans(*_move_to_zero(charts.points * scale, charts.owner), charts, gap_cells)
        scale *= np.sqrt(cells**2 * density / shape.filled.sum())
        if gap_cells > gaps.start and charts.area * scale**2 < enough * cells**2:
            break
        chosen = scale, gap_cells
    return chosen


def _fit_height(height: float) -> Floats:
    """Return the factors along both axes that bring charts of this height (the width is 1) into the square; [2].

    Up to MAX_ANISOTROPY is stretched or compressed along the height alone; beyond, both axes are scaled alike.
    """
    if height > 1 + MAX_ANISOTROPY:
        return np.array([1 / height, 1 / height])
    return np.array([1.0, min(1 / height, 1 + MAX_ANISOTROPY)])


def _rotate_to_smallest_box(points: Floats, owner: Ints) -> Floats:
    """Rotate each chart to the smallest box among 16 angles, then among three angles a third of a step apart."""
    step, count = np.pi / 32, int(owner[-1]) + 1
    angles = _choose_angles(points, owner, np.repeat(np.arange(16)[:, None] * step, count, axis=1))
    return _rotate(points, owner, _choose_angles(points, owner, angles + np.array([[0], [-1], [1]]) * step / 3))


def _choose_angles(points: Floats, owner: Ints, angles: Floats) -> Floats:
    """Return which of each chart's angles, [tries, charts], gives the smallest box; float64 [charts]."""
    boxes = [_measure_extent(_rotate(points, owner, each), owner)[1].prod(axis=1) for each in angles]
    chosen: Floats = angles[np.stack(boxes).argmin(axis=0), np.arange(angles.shape[1])]
    return chosen


def _rotate(points: Floats, owner: Ints, angles: Floats) -> Floats:
    cosine, sine = np.cos(angles)[owner], np.sin(angles)[owner]
    x, y = points.T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def _measure_extent(points: Floats, owner: Ints) -> tuple[Floats, Floats]:
    """Return each chart's lowest coordinates and its size; float64 [charts, 2] both."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    low = np.minimum.reduceat(points, starts)
    return low, np.maximum.reduceat(points, starts) - low


def _move_to_zero(points: Floats, owner: Ints) -> tuple[Floats, Floats]:
    """Move each chart's lowest coordinates to zero; return the points, [points, 2], and the sizes, [charts, 2]."""
    low, extent = _measure_extent(points, owner)
    return points - low[owner], extent


def _try_scale(
    charts: _Charts, scale: float, cells: int, gap_cells: int, *, by_outline: bool = False
) -> tuple[Floats, int, int]:
    """Pack at a given scale, the charts with the largest box, or with the longest outline, first.

    Returns:
        The points in cells, the number of rows in use, and the number of filled cells.
    """
    moved = [_move_to_zero(charts.points * scale @ rotation, charts.owner) for rotation in ROTATIONS]
    rotated = [points for points, _ in moved]
    shapes = [_find_spans(points, extent, charts, gap_cells) for points, extent in moved]
    sizes = np.stack([shape.size for shape in shapes])
    order = np.argsort(-(sizes[0].sum(axis=1) if by_outline else sizes[0].prod(axis=1)), kind="stable")
    spans, ends = [shape.spans for shape in shapes], [shape.ends for shape in shapes]
    device = str(charts.faces.device)
    width = cells + gap_cells  # the gap of a row's last chart may be outside of the square
    position = place_charts(sizes, spans, ends, order, width, device, parallel=device != "cpu")
    height = int((position[:, 1] + sizes[position[:, 2], np.arange(len(position)), 1]).max()) - gap_cells
    filled = int(shapes[0].filled.sum())
    corner = position[charts.owner]
    placed = np.stack(rotated)[corner[:, 2], np.arange(len(charts.owner))] + corner[:, :2]
    return placed, height, filled


@dataclass(frozen=True, slots=True)
class Shapes:
    """The cells of all charts in one rotation.

    size: [charts, 2], cells across and down. spans: int32 [spans, 4], row, first cell, length, and where the chart's
    span before it in its row ends, or -1; a chart's longest span comes first, since it is the least likely to fit.
    ends: [charts], where each chart's spans end. filled: [charts], number of cells.
    """

    size: Ints
    spans: NDArray[np.int32]
    ends: Ints
    filled: Ints


def _find_spans(points: Floats, extent: Floats, charts: _Charts, gap_cells: int) -> Shapes:
    """Find the cells that each chart touches, and those within the gap to the right and below."""
    device = charts.faces.device
    size = np.floor(extent).astype(np.int64) + 1 + gap_cells
    stride = size[:, 0] + 1  # an empty cell ends every row
    ends = np.cumsum(stride * size[:, 1])
    start = np.r_[0, ends[:-1]]
    touched = wp.zeros(int(ends[-1]), dtype=wp.uint8, device=device)
    inputs = [wp.array(points.astype(np.float32), dtype=wp.vec2, device=device), charts.faces, charts.chart]
    inputs += [to_int32(each, device) for each in (start, stride)]
    wp.launch(_mark_cells, dim=len(charts.chart), inputs=[*inputs, gap_cells, touched], device=device)
    # A span begins where the bitmap, row after row of all charts, changes to 1, and ends where it changes to 0.
    edge = np.diff(touched.numpy().astype(np.int8), prepend=np.int8(0))
    first, past = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    owner = np.searchsorted(ends, first, side="right")
    row, column = np.divmod(first - start[owner], stride[owner])
    same_row = np.r_[False, np.diff(start[owner] + row * stride[owner]) == 0]
    end_before = np.where(same_row, np.r_[0, (column + past - first)[:-1]], -1)
    longest_first = np.lexsort((first - past, owner))
    spans = np.stack([row, column, past - first, end_before], axis=1).astype(np.int32)[longest_first]
    count = len(size)
    filled = np.bincount(owner, past - first, minlength=count).astype(np.int64)
    return Shapes(size, spans, np.cumsum(np.bincount(owner, minlength=count)), filled)


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
    points: wp.array[wp.vec2],
    faces: wp.array2d[wp.int32],
    chart: wp.array[wp.int32],
    start: wp.array[wp.int32],
    stride: wp.array[wp.int32],
    gap: wp.int32,
    touched: wp.array[wp.uint8],
) -> None:
    """Mark the cells that a face touches, by the separating axis theorem, and the gap to their right and below."""
    # Load the face and its chart's bitmap.
    face = wp.tid()
    a = points[faces[face, 0]]
    b = points[faces[face, 1]]
    c = points[faces[face, 2]]
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    base = start[chart[face]]
    width = stride[chart[face]]
    # Test each cell of the face's box: none of the three edges may separate it from the face.
    for y in range(int(low[1]), int(high[1]) + 1):
        for x in range(int(low[0]), int(high[0]) + 1):
            u = float(x)
            v = float(y)
            if not (_separates(a, b, c, u, v) or _separates(b, c, a, u, v) or _separates(c, a, b, u, v)):
                for down in range(gap + 1):
                    for right in range(gap + 1):
                        touched[base + (y + down) * width + x + right] = wp.uint8(1)
