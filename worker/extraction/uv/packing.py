"""Pack charts into the unit square: rotate each to its smallest box, choose a common scale, and place it on a grid.

The scale follows from how tightly the charts fill a first, coarse grid: at that density they fill the square. If they
would use more of the texture than needed, wider gutters take the space instead, since coarse mip levels then mix the
colours of neighbouring charts less. `placement` finds the positions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32
from worker.extraction.mesh.geometry import signed_areas_2d
from worker.extraction.mesh.topology import chart_of_vertex
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.uv.chart_cells import ChartPoints, count_cells, find_spans
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
WIDEST_SHARE = 0.99  # largest width of a chart, relative to the square
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
class _Charts(ChartPoints):
    """The charts to pack, each rotated to its smallest box.

    owner: int64 [points], each point's chart. area: of all charts, in squared units of points.
    """

    owner: Ints
    area: float

    @classmethod
    def from_faces(cls, points: NDArray[np.float32], faces: NDArray[np.int32], chart: Ints, device: str) -> "_Charts":
        owner = chart_of_vertex(faces, chart, len(points))
        rotated = _rotate_to_smallest_box(points.astype(np.float64), owner)
        area = max(float(np.abs(signed_areas_2d(rotated[faces])).sum()), 1e-30)
        low, high = _measure_box(rotated, owner)
        return cls(rotated, low, high, to_int32(faces, device), to_int32(chart, device), owner, area)

    def limit_scale(self, scale: float, cells: int) -> float:
        """Limit a scale so that every chart fits between the sides of the square, upright or lying."""
        widest = float((self.high - self.low).min(axis=1).max())
        return min(scale, WIDEST_SHARE * cells / max(widest, 1e-30))


def _measure_first_scale(charts: _Charts, cells: int, gaps: range) -> tuple[float, int]:
    """Return the scale and the gap to begin with, from the density that a coarse grid reaches."""
    coarse = min(cells, COARSE_CELLS)
    scale = charts.limit_scale(coarse * np.sqrt(FIRST_USE / charts.area), coarse)
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
        filled = count_cells(charts, scale, gap_cells)
        scale = charts.limit_scale(scale * np.sqrt(cells**2 * density / filled), cells)
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
    boxes = (_measure_box(_rotate(points, owner, each), owner) for each in angles)
    smallest = np.stack([(high - low).prod(axis=1) for low, high in boxes]).argmin(axis=0)
    chosen: Floats = angles[smallest, np.arange(angles.shape[1])]
    return chosen


def _rotate(points: Floats, owner: Ints, angles: Floats) -> Floats:
    cosine, sine = np.cos(angles)[owner], np.sin(angles)[owner]
    x, y = points.T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def _measure_box(points: Floats, owner: Ints) -> tuple[Floats, Floats]:
    """Return each chart's lowest and highest coordinates; float64 [charts, 2] both."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)


def _try_scale(
    charts: _Charts, scale: float, cells: int, gap_cells: int, *, by_outline: bool = False
) -> tuple[Floats, int, int]:
    """Pack at a given scale, the charts with the largest box, or with the longest outline, first.

    Returns:
        The points in cells, the number of rows in use, and the number of filled cells.
    """
    shapes = find_spans(charts, scale, gap_cells, len(ROTATIONS))
    box = shapes.sizes[0]
    order = np.argsort(-(box.sum(axis=1) if by_outline else box.prod(axis=1)), kind="stable")
    width = cells + gap_cells  # the gap of a row's last chart may be outside of the square
    position = place_charts(shapes, order, width)
    height = int((position[:, 1] + shapes.sizes[position[:, 2], np.arange(len(position)), 1]).max()) - gap_cells
    rotation = ROTATIONS[position[:, 2]]
    rotated = np.einsum("pi,pij->pj", charts.points * scale, rotation[charts.owner])
    placed = rotated - _measure_box(rotated, charts.owner)[0][charts.owner] + position[charts.owner, :2]
    return placed, height, shapes.cells
