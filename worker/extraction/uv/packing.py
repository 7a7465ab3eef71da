"""Pack charts into a square: each in turn at the lowest place where it fits, in the best of four turns.

Charts are rows of filled spans on a grid of cells, and the square keeps for every cell how many free cells follow it
in its row. A chart fits where each of its spans is followed by enough; where one is not, the search jumps past the
obstacle. Holes inside and between charts are filled like any other place.
"""

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.mesh.adjacency import chart_of_vertex
from worker.extraction.mesh.face_geometry import signed_areas_2d
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.uv.placement import place

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TURNS = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]], dtype=np.float64)
COARSE_CELLS = 1024  # the first try is on so many, at most; it tells at which scale the charts will fit
TRIES = 4  # after it, at most, but
FINE_TRIES = 2  # on a finer grid, as each costs four times as much there
FULL = 0.65  # the part of the square that is to be in use; where it is not, another try follows,
SPACIOUS = 0.665  # and where it is more than this, on a finer grid, there may be room for wider gaps
UNEVEN = 0.02  # how much denser texels may lie along one axis than along the other
FIRST_FILL = 0.72  # the part of the square that the first try hopes to fill
ENOUGH = 0.645  # the part of the square in use beyond which charts are rather moved apart than made larger


def pack(
    points: NDArray[np.float32],
    faces: NDArray[np.int32],
    chart: Ints,
    *,
    cells: int,
    gap_cells: int,
    widest_gap_cells: int = 0,
    device: str,
    step: ProgressCallback,
) -> NDArray[np.float32]:
    """Move, turn and scale (all alike) the charts into the unit square; float32 [points, 2].

    points: float32 [points, 2], sorted by their chart. chart: [faces], numbered from 0. Charts end up at least
    `gap_cells` apart, on a grid of `cells` x `cells`; farther, up to `widest_gap_cells`, if the texture is used enough.
    """
    charts = _Charts.of(points, faces, chart, device)
    gaps = range(gap_cells, max(gap_cells, widest_gap_cells) + 1)
    scale, gap_cells = _first(charts, cells, gaps)
    best, merit = charts.points, (0.0, 0)  # what is used up to FULL, then the gap
    tries, spacious = (TRIES, 1.0) if cells <= COARSE_CELLS else (FINE_TRIES, SPACIOUS)
    for number in range(tries):
        step((1 + number) / (1 + tries))
        placed, height, filled = _try(charts, scale, cells, gap_cells, by_outline=number % 2 == 1)
        fit = _fit(height / cells)
        used = charts.area * scale**2 * fit.prod() / cells**2
        if (min(used, FULL), gap_cells) > merit:
            best, merit = placed * fit / cells, (min(used, FULL), gap_cells)
        if FULL <= used < spacious or number == tries - 1:
            break
        to_choose = gaps if used >= FULL else range(gaps.start, max(gap_cells, gaps.start + 1))
        scale, gap_now = scale * np.sqrt(cells / height), gap_cells
        scale, gap_cells = _roomiest(charts, scale, cells, filled / (height * cells), to_choose, FULL)
        if used >= FULL and gap_cells <= gap_now:
            break
    return np.clip(best, 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Charts:
    """What is to be packed: points, float64 [points, 2], each chart turned level; each point's chart; faces on them."""

    points: Floats
    owner: Ints
    faces: wp.array
    chart: wp.array
    area: float

    @classmethod
    def of(cls, points: NDArray[np.float32], faces: NDArray[np.int32], chart: Ints, device: str) -> "_Charts":
        owner = chart_of_vertex(faces, chart, len(points))
        level = _levelled(points.astype(np.float64), owner)
        area = max(float(np.abs(signed_areas_2d(level[faces])).sum()), 1e-30)
        return cls(level, owner, to_int32(faces, device), to_int32(chart, device), area)


def _first(charts: _Charts, cells: int, gaps: range) -> tuple[float, int]:
    """The scale and the gap to begin with, from how tightly the charts pack on a coarse grid."""
    coarse = min(cells, COARSE_CELLS)
    scale = coarse * np.sqrt(FIRST_FILL / charts.area)
    _, height, filled = _try(charts, scale, coarse, -(-gaps.start * coarse // cells))
    scale *= np.sqrt(coarse / height) * cells / coarse
    return _roomiest(charts, scale, cells, filled / (height * coarse), gaps, ENOUGH)


def _roomiest(
    charts: _Charts, scale: float, cells: int, tightness: float, gaps: range, enough: float
) -> tuple[float, int]:
    """The widest of the gaps that leaves enough of the square in use, and the scale at which the charts fill it then.

    tightness: what part of the square is filled by charts and their gaps.
    """
    chosen = scale, gaps.start
    for gap_cells in gaps:
        shape = _shapes(*_from_zero(charts.points * scale, charts.owner), charts, gap_cells)
        scale *= np.sqrt(cells**2 * tightness / shape.filled.sum())
        if gap_cells > gaps.start and charts.area * scale**2 < enough * cells**2:
            break
        chosen = scale, gap_cells
    return chosen


def _fit(height: float) -> Floats:
    """What brings charts that fill the square's width into its height: along each axis, float64 [2].

    A little is taken from, or added to, the height alone; what is more than that is scaled alike.
    """
    if height > 1 + UNEVEN:
        return np.array([1 / height, 1 / height])
    return np.array([1.0, min(1 / height, 1 + UNEVEN)])


def _levelled(points: Floats, owner: Ints) -> Floats:
    """Each chart turned so that the box around it is the smallest of 16, then of those a third of a step beside it."""
    step, count = np.pi / 32, int(owner[-1]) + 1
    angles = _levelling(points, owner, np.repeat(np.arange(16)[:, None] * step, count, axis=1))
    return _turned(points, owner, _levelling(points, owner, angles + np.array([[0], [-1], [1]]) * step / 3))


def _levelling(points: Floats, owner: Ints, angles: Floats) -> Floats:
    """Which of each chart's angles, [tries, charts], makes the box around it smallest; float64 [charts]."""
    boxes = [_extent(_turned(points, owner, each), owner)[1].prod(axis=1) for each in angles]
    chosen: Floats = angles[np.stack(boxes).argmin(axis=0), np.arange(angles.shape[1])]
    return chosen


def _turned(points: Floats, owner: Ints, angles: Floats) -> Floats:
    cosine, sine = np.cos(angles)[owner], np.sin(angles)[owner]
    x, y = points.T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def _extent(points: Floats, owner: Ints) -> tuple[Floats, Floats]:
    """Each chart's lowest coordinates and its size; float64 [charts, 2] both."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    low = np.minimum.reduceat(points, starts)
    return low, np.maximum.reduceat(points, starts) - low


def _try(
    charts: _Charts, scale: float, cells: int, gap_cells: int, *, by_outline: bool = False
) -> tuple[Floats, int, int]:
    """Pack at a given scale, the charts first around which the box is largest, or its outline longest.

    The points in cells, how many rows of cells are in use, and how many cells are filled.
    """
    moved = [_from_zero(charts.points * scale @ turn, charts.owner) for turn in TURNS]
    turned = [points for points, _ in moved]
    shapes = [_shapes(points, extent, charts, gap_cells) for points, extent in moved]
    sizes = np.stack([shape.size for shape in shapes])
    order = np.argsort(-(sizes[0].sum(axis=1) if by_outline else sizes[0].prod(axis=1)), kind="stable")
    spans, ends = [shape.spans for shape in shapes], [shape.ends for shape in shapes]
    device = str(charts.faces.device)
    across = cells + gap_cells  # as the gap of the last chart in a row may lie outside
    where = place(sizes, spans, ends, order, across, device, together=device != "cpu")
    height = int((where[:, 1] + sizes[where[:, 2], np.arange(len(where)), 1]).max()) - gap_cells
    filled = int(shapes[0].filled.sum())
    places = np.stack(turned)[where[charts.owner, 2], np.arange(len(charts.owner))] + where[charts.owner, :2]
    return places, height, filled


def _from_zero(points: Floats, owner: Ints) -> tuple[Floats, Floats]:
    """The points with every chart's lowest coordinates at zero, and each chart's size; float64 [points | charts, 2]."""
    low, extent = _extent(points, owner)
    return points - low[owner], extent


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Every chart in one turn.

    size: [charts, 2], cells across and down. spans: int32 [spans, 4], row, first cell, length, and where the span
    before it in its row ends, or -1; the longest of a chart first: it is the likeliest not to fit. ends: [charts],
    where each chart's spans end. filled: [charts], cells.
    """

    size: Ints
    spans: NDArray[np.int32]
    ends: Ints
    filled: Ints


def _shapes(points: Floats, extent: Floats, charts: _Charts, gap_cells: int) -> _Shapes:
    """The cells that each chart touches, and those within the gap to the right and below."""
    device = charts.faces.device
    size = np.floor(extent).astype(np.int64) + 1 + gap_cells
    stride = size[:, 0] + 1  # a cell that stays empty ends every row
    ends = np.cumsum(stride * size[:, 1])
    start = np.r_[0, ends[:-1]]
    touched = wp.zeros(int(ends[-1]), dtype=wp.uint8, device=device)
    inputs = [wp.array(points.astype(np.float32), dtype=wp.vec2, device=device), charts.faces, charts.chart]
    inputs += [to_int32(each, device) for each in (start, stride)]
    wp.launch(_touch, dim=len(charts.chart), inputs=[*inputs, gap_cells, touched], device=device)
    edge = np.diff(touched.numpy().astype(np.int8), prepend=np.int8(0))
    first, past = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
    owner = np.searchsorted(ends, first, side="right")
    row, column = np.divmod(first - start[owner], stride[owner])
    follows = np.r_[False, np.diff(start[owner] + row * stride[owner]) == 0]
    before = np.where(follows, np.r_[0, (column + past - first)[:-1]], -1)
    longest_first = np.lexsort((first - past, owner))
    spans = np.stack([row, column, past - first, before], axis=1).astype(np.int32)[longest_first]
    count = len(size)
    filled = np.bincount(owner, past - first, minlength=count).astype(np.int64)
    return _Shapes(size, spans, np.cumsum(np.bincount(owner, minlength=count)), filled)


@wp.func
def _apart(a: wp.vec2, b: wp.vec2, c: wp.vec2, x: wp.float32, y: wp.float32) -> wp.bool:
    """Whether edge a-b has the triangle's third corner c on one side and the whole unit cell at (x, y) on the other."""
    normal = wp.vec2(a[1] - b[1], b[0] - a[0])
    if wp.dot(normal, c - a) < 0.0:
        normal = -normal
    nearest = wp.vec2(x + wp.where(normal[0] > 0.0, 1.0, 0.0), y + wp.where(normal[1] > 0.0, 1.0, 0.0))
    return wp.dot(normal, nearest - a) < 0.0


@wp.kernel
def _touch(
    points: wp.array[wp.vec2],
    faces: wp.array2d[wp.int32],
    chart: wp.array[wp.int32],
    start: wp.array[wp.int32],
    stride: wp.array[wp.int32],
    gap: wp.int32,
    touched: wp.array[wp.uint8],
) -> None:
    face = wp.tid()
    a = points[faces[face, 0]]
    b = points[faces[face, 1]]
    c = points[faces[face, 2]]
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    base = start[chart[face]]
    width = stride[chart[face]]
    for y in range(int(low[1]), int(high[1]) + 1):
        for x in range(int(low[0]), int(high[0]) + 1):
            u = float(x)
            v = float(y)
            if not (_apart(a, b, c, u, v) or _apart(b, c, a, u, v) or _apart(c, a, b, u, v)):
                for down in range(gap + 1):
                    for right in range(gap + 1):
                        touched[base + (y + down) * width + x + right] = wp.uint8(1)
