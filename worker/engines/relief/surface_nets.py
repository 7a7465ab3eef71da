"""The body's boundary as a closed triangle mesh, by surface nets (Gibson, Constrained Elastic Surface Nets, 1998).

One vertex in every lattice cell that the surface crosses, at the mean of its crossings with the cell's edges instead of
Gibson's relaxation, and one quad around every crossed edge. The body is stored by columns: for each point of the middle
plane, how far it reaches to the front and to the back. They give the crossed edges directly, without a search through
the volume.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.raster_ops import scale

EMPTY = -1  # the reach of a column that is not part of the body
# Crossings keep this distance from the lattice points, in cells: no two vertices coincide, no face degenerates.
CLEARANCE = 0.04


@dataclass(frozen=True, slots=True)
class Columns:
    """Squared half thicknesses, and the lattice points that they enclose.

    front, back: float32 [side, side] along x and y, squares of the thickness before and behind the middle plane, in
    cells squared; negative outside. top, bottom: int32 [side, side], the last lattice point inside before and behind
    the plane, counted from it (the point in the plane is 0); EMPTY outside.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SurfaceCells:
    """The cells that the surface crosses, numbered column by column, first all in front, then all behind.

    A cell is named by its lowest corner (i, j, k) and reaches to (i + 1, j + 1, k + 1). In front k is 0 and more,
    behind it is -1 and less; `level` counts from the middle plane, so k = level or -1 - level.
    first, last: int32 [2, side - 1, side - 1], the crossed levels in front and behind; last < first if there are none.
    start: int32, the same shape, the number of the column's first cell.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    start: NDArray[np.int32]
    count: int

    def at(self, i: NDArray[np.int32], j: NDArray[np.int32], k: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the numbers of crossed cells."""
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


def build_columns(front: NDArray[np.float32], back: NDArray[np.float32]) -> Columns:
    """Find the lattice points inside, and add the few that make their boundary a manifold.

    Every column inside contains its point in the middle plane. So two columns never touch along an edge or at a corner
    only, except where four columns meet as a saddle; those are filled here. The result is well-composed (Latecki,
    3D Well-Composed Pictures, 1997): its boundary is a manifold.
    """
    return Columns(front, back, _without_saddles(_reach(front)), _without_saddles(_reach(back)))


def coarsen(
    front: NDArray[np.float32], back: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Resample the body to a grid of fewer cells; front and back still agree on the outline."""
    factor = np.float32((side / front.shape[0]) ** 2)
    coarse_front, coarse_back = (scale(half, side, side) * factor for half in (front, back))
    tiny = np.float32(1e-6)
    agreed = np.where(coarse_front > 0, np.maximum(coarse_back, tiny), np.minimum(coarse_back, -tiny))
    return coarse_front, agreed


def _reach(squared: NDArray[np.float32]) -> NDArray[np.int32]:
    inside = squared > 0
    return np.where(inside, np.sqrt(np.maximum(squared, 0)), EMPTY).astype(np.int32)


def _without_saddles(reach: NDArray[np.int32]) -> NDArray[np.int32]:
    """Raise the higher of the two low columns in every two-by-two block whose other diagonal is higher than both.

    An EMPTY column joins the body only where both low ones are EMPTY: this depends on the outline alone, so front and
    back agree on it.
    """
    reach = reach.copy()
    a, b, c, d = reach[:-1, :-1], reach[1:, :-1], reach[:-1, 1:], reach[1:, 1:]
    while True:
        level_ad, level_bc = np.minimum(a, d), np.minimum(b, c)
        raise_bc, raise_ad = level_ad > np.maximum(b, c), level_bc > np.maximum(a, d)
        if not (raise_bc.any() or raise_ad.any()):
            return reach
        for column, chosen, level in (
            (b, raise_bc & (b >= c), level_ad),
            (c, raise_bc & (b < c), level_ad),
            (a, raise_ad & (a >= d), level_bc),
            (d, raise_ad & (a < d), level_bc),
        ):
            column[chosen] = level[chosen]


def expand_runs(first: NDArray[np.int32], last: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return (column, level) of every level from `first` to `last`, column by column; none where last < first.

    Args:
        first, last: int32 [columns].
    """
    length = np.maximum(last - first + 1, 0)
    column = np.repeat(np.arange(first.size, dtype=np.int32), length)
    start = np.cumsum(length) - length
    return column, (np.arange(column.size) - (start - first)[column]).astype(np.int32)


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
    columns: Columns, cells: SurfaceCells, on_progress: Callable[[], None] = lambda: None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Mesh the boundary: closed, manifold, counter-clockwise seen from outside.

    Args:
        on_progress: called after each sixth of the work.

    Returns:
        vertices: float32 [cells, 3], in cells along x, y and z (z from the middle plane). faces: int32 [faces, 3].
    """
    sums = np.zeros((4, cells.count))
    quads = []
    for crossings in _crossings(columns):
        quad = _adjacent_cells(crossings, cells)
        _add_points(sums, crossings, quad)
        quads.append(np.where(crossings.outward[:, None] > 0, quad, quad[:, ::-1]))
        on_progress()
    vertices = (sums[:3] / sums[3]).T.astype(np.float32)
    return vertices, _split_quads(vertices, np.concatenate(quads))


def _crossings(columns: Columns) -> Iterator[_Crossings]:
    for squared, reach, sign in ((columns.front, columns.top, 1), (columns.back, columns.bottom, -1)):
        yield _crossings_along_z(squared, reach, sign)
        yield _crossings_in_plane(squared, reach, sign, axis=0)
        yield _crossings_in_plane(squared, reach, sign, axis=1)


def _crossings_along_z(squared: NDArray[np.float32], reach: NDArray[np.int32], sign: int) -> _Crossings:
    """Find the edge at the end of each column."""
    i, j = (index.astype(np.int32) for index in np.nonzero(reach >= 0))
    level = reach[i, j]
    beyond = _keep_clear(np.sqrt(np.maximum(squared[i, j], 0)) - level)
    k, fraction = (level, beyond) if sign > 0 else (-1 - level, 1 - beyond)
    return _Crossings(2, i, j, k, fraction, np.full(i.size, sign, np.int32))


def _crossings_in_plane(squared: NDArray[np.float32], reach: NDArray[np.int32], sign: int, axis: int) -> _Crossings:
    """Find the edges along x (axis 0) or y between columns of which only one reaches the edge's level."""
    near, far = (slice(None, -1), slice(None)), (slice(1, None), slice(None))
    near, far = (near, far) if axis == 0 else (near[::-1], far[::-1])
    lower = np.minimum(reach[near], reach[far])
    # The middle plane itself is level 0 of the front.
    first = np.maximum(lower + 1, 0 if sign > 0 else 1)
    column, level = expand_runs(first.ravel(), np.maximum(reach[near], reach[far]).ravel())
    i, j = (index.astype(np.int32) for index in np.divmod(column, lower.shape[1]))
    near_value, far_value = squared[near][i, j] - level**2, squared[far][i, j] - level**2
    leaves = reach[near][i, j] >= level
    # A lattice point that was added to the body counts as barely inside, whatever its value.
    inner = np.maximum(np.where(leaves, near_value, far_value), 1e-6)
    outer = np.minimum(np.where(leaves, far_value, near_value), -1e-6)
    beyond = _keep_clear(inner / (inner - outer))
    return _Crossings(
        axis, i, j, sign * level, np.where(leaves, beyond, 1 - beyond), np.where(leaves, 1, -1).astype(np.int32)
    )


def _keep_clear(fraction: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.clip(fraction, CLEARANCE, 1 - CLEARANCE), np.float32)


def _adjacent_cells(crossings: _Crossings, cells: SurfaceCells) -> NDArray[np.int32]:
    """Return the four cells around each edge, counter-clockwise seen from its far end; int32 [edges, 4]."""
    i, j, k = crossings.i, crossings.j, crossings.k
    if crossings.axis == 0:
        adjacent = [(i, j - 1, k - 1), (i, j, k - 1), (i, j, k), (i, j - 1, k)]
    elif crossings.axis == 1:
        adjacent = [(i - 1, j, k - 1), (i - 1, j, k), (i, j, k), (i, j, k - 1)]
    else:
        adjacent = [(i - 1, j - 1, k), (i, j - 1, k), (i, j, k), (i - 1, j, k)]
    return np.stack([cells.at(*cell) for cell in adjacent], axis=1)


def _add_points(sums: NDArray[np.float64], crossings: _Crossings, quad: NDArray[np.int32]) -> None:
    """Add every crossing's position, and 1 to count it, to each of its four cells."""
    for axis, index in enumerate((crossings.i, crossings.j, crossings.k)):
        position = index + crossings.fraction if axis == crossings.axis else index
        sums[axis] += np.bincount(quad.ravel(), np.repeat(position, 4), minlength=sums.shape[1])
    sums[3] += np.bincount(quad.ravel(), minlength=sums.shape[1])


def _split_quads(vertices: NDArray[np.float32], quads: NDArray[np.int32]) -> NDArray[np.int32]:
    """Split every quad along its shorter diagonal."""
    a, b, c, d = quads.T
    first = ((vertices[a] - vertices[c]) ** 2).sum(axis=1) <= ((vertices[b] - vertices[d]) ** 2).sum(axis=1)
    lower = np.stack([a, b, np.where(first, c, d)], axis=1)
    upper = np.stack([np.where(first, a, b), c, d], axis=1)
    return np.concatenate([lower, upper])
