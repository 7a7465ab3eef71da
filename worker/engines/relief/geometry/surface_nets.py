"""The boundary of a body as a closed triangle mesh, by surface nets.

After Gibson, "Constrained Elastic Surface Nets" (1998): one vertex in every lattice cell that the surface passes
through, at the mean of its crossings with the cell's edges; one quad around every crossed edge. The body's columns say
which edges those are, so nothing has to be searched for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.geometry.column_occupancy import Columns, expand_runs

# Crossings keep this far from the lattice points, in cells: no two vertices can meet, no face can vanish.
CLEARANCE = 0.04


@dataclass(frozen=True, slots=True)
class SurfaceCells:
    """The cells that the surface passes through, numbered column by column, first all in front, then all behind.

    A cell is named by its lowest corner (i, j, k) and reaches to (i + 1, j + 1, k + 1). In front k is 0 and more,
    behind it is -1 and less; `level` counts from the middle plane, so k = level or -1 - level.
    first, last: int32 [2, side - 1, side - 1], the levels passed through in front and behind; last < first where none.
    start: int32, the same shape, the number of the column's first cell.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    start: NDArray[np.int32]
    count: int

    def at(self, i: NDArray[np.int32], j: NDArray[np.int32], k: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of cells that the surface passes through."""
        half = (k < 0).astype(np.int32)
        level = np.where(k < 0, -1 - k, k)
        return self.start[half, i, j] + level - self.first[half, i, j]


@dataclass(frozen=True, slots=True)
class _Crossings:
    """Edges with one end inside, along `axis` from (i, j, k).

    fraction: where the surface crosses, from 0 at (i, j, k) to 1. outward: 1 where the edge leaves the body, else -1.
    """

    axis: int
    i: NDArray[np.int32]
    j: NDArray[np.int32]
    k: NDArray[np.int32]
    fraction: NDArray[np.float32]
    outward: NDArray[np.int32]


def find_surface_cells(columns: Columns) -> SurfaceCells:
    """Find the cells that have lattice points inside and outside."""
    first, last = [], []
    for reach in (columns.top, columns.bottom):
        corners = np.stack([reach[:-1, :-1], reach[1:, :-1], reach[:-1, 1:], reach[1:, 1:]])
        first.append(np.maximum(corners.min(axis=0), 0))
        last.append(corners.max(axis=0))
    first_level, last_level = np.stack(first), np.stack(last)
    length = np.maximum(last_level - first_level + 1, 0)
    ends = np.cumsum(length, dtype=np.int32).reshape(length.shape)
    return SurfaceCells(first_level, last_level, ends - length, int(ends[-1, -1, -1]))


def mesh_columns(
    columns: Columns, cells: SurfaceCells, tick: Callable[[], None] = lambda: None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The surface: vertices float32 [cells, 3] in cells along x, y, z (z from the middle plane), faces int32 [n, 3].

    Closed, manifold, counter-clockwise seen from outside. `tick` is called after each sixth of the work.
    """
    sums = np.zeros((4, cells.count))
    quads = []
    for crossings in _crossings(columns):
        quad = _cells_around(crossings, cells)
        _add_points(sums, crossings, quad)
        quads.append(np.where(crossings.outward[:, None] > 0, quad, quad[:, ::-1]))
        tick()
    vertices = (sums[:3] / sums[3]).T.astype(np.float32)
    return vertices, _triangles(vertices, np.concatenate(quads))


def _crossings(columns: Columns) -> Iterator[_Crossings]:
    for squared, reach, sign in ((columns.front, columns.top, 1), (columns.back, columns.bottom, -1)):
        yield _along_z(squared, reach, sign)
        yield _in_plane(squared, reach, sign, axis=0)
        yield _in_plane(squared, reach, sign, axis=1)


def _along_z(squared: NDArray[np.float32], reach: NDArray[np.int32], sign: int) -> _Crossings:
    i, j = (index.astype(np.int32) for index in np.nonzero(reach >= 0))
    level = reach[i, j]
    beyond = _clear(np.sqrt(np.maximum(squared[i, j], 0)) - level)
    k, fraction = (level, beyond) if sign > 0 else (-1 - level, 1 - beyond)
    return _Crossings(2, i, j, k, fraction, np.full(i.size, sign, np.int32))


def _in_plane(squared: NDArray[np.float32], reach: NDArray[np.int32], sign: int, axis: int) -> _Crossings:
    """Edges along x (axis 0) or y between columns of which only one reaches the edge's level."""
    here, there = (slice(None, -1), slice(None)), (slice(1, None), slice(None))
    here, there = (here, there) if axis == 0 else (here[::-1], there[::-1])
    lower = np.minimum(reach[here], reach[there])
    # The middle plane itself is level 0 of the front.
    first = np.maximum(lower + 1, 0 if sign > 0 else 1)
    column, level = expand_runs(first.ravel(), np.maximum(reach[here], reach[there]).ravel())
    i, j = (index.astype(np.int32) for index in np.divmod(column, lower.shape[1]))
    value_here, value_there = squared[here][i, j] - level**2, squared[there][i, j] - level**2
    leaves = reach[here][i, j] >= level
    # A lattice point that was added to the body counts as barely inside, whatever its value.
    inner = np.maximum(np.where(leaves, value_here, value_there), 1e-6)
    outer = np.minimum(np.where(leaves, value_there, value_here), -1e-6)
    beyond = _clear(inner / (inner - outer))
    return _Crossings(
        axis, i, j, sign * level, np.where(leaves, beyond, 1 - beyond), np.where(leaves, 1, -1).astype(np.int32)
    )


def _clear(fraction: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.clip(fraction, CLEARANCE, 1 - CLEARANCE), np.float32)


def _cells_around(crossings: _Crossings, cells: SurfaceCells) -> NDArray[np.int32]:
    """int32 [edges, 4]: the cells around each edge, counter-clockwise seen from its far end."""
    i, j, k = crossings.i, crossings.j, crossings.k
    if crossings.axis == 0:
        around = [(i, j - 1, k - 1), (i, j, k - 1), (i, j, k), (i, j - 1, k)]
    elif crossings.axis == 1:
        around = [(i - 1, j, k - 1), (i - 1, j, k), (i, j, k), (i, j, k - 1)]
    else:
        around = [(i - 1, j - 1, k), (i, j - 1, k), (i, j, k), (i - 1, j, k)]
    return np.stack([cells.at(*cell) for cell in around], axis=1)


def _add_points(sums: NDArray[np.float64], crossings: _Crossings, quad: NDArray[np.int32]) -> None:
    """Add every crossing's position, and a one to count it, to each of its four cells."""
    for axis, index in enumerate((crossings.i, crossings.j, crossings.k)):
        position = index + crossings.fraction if axis == crossings.axis else index
        sums[axis] += np.bincount(quad.ravel(), np.repeat(position, 4), minlength=sums.shape[1])
    sums[3] += np.bincount(quad.ravel(), minlength=sums.shape[1])


def _triangles(vertices: NDArray[np.float32], quads: NDArray[np.int32]) -> NDArray[np.int32]:
    """Cut every quad along its shorter diagonal."""
    a, b, c, d = quads.T
    first = ((vertices[a] - vertices[c]) ** 2).sum(axis=1) <= ((vertices[b] - vertices[d]) ** 2).sum(axis=1)
    lower = np.stack([a, b, np.where(first, c, d)], axis=1)
    upper = np.stack([np.where(first, a, b), c, d], axis=1)
    return np.concatenate([lower, upper])
