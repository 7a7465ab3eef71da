"""A body as columns of lattice points: for each place in the plane, how far it reaches to the front and the back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engines.relief.resampling import scale

NOTHING = -1  # the reach of a column that is not part of the body


@dataclass(frozen=True, slots=True)
class Columns:
    """Half thicknesses squared, and the lattice points they enclose.

    front, back: float32 [side, side] along x and y, squares of the thickness before and behind the middle plane, in
    cells squared; negative outside. top, bottom: int32 [side, side], the last lattice point inside before and behind
    the plane, counted from it (the point in the plane is 0); NOTHING outside.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    top: NDArray[np.int32]
    bottom: NDArray[np.int32]


def build_columns(front: NDArray[np.float32], back: NDArray[np.float32]) -> Columns:
    """Find the lattice points inside, and add the few that make their boundary a manifold.

    Every column inside has its point in the middle plane. So two columns can never touch along an edge or at a
    corner only, except where four columns meet as a saddle; those are filled up here. What is left is well-composed
    (Latecki, Eckhardt and Rosenfeld, 1995), and the boundary of such a set is a manifold.
    """
    return Columns(front, back, _without_saddles(_reach(front)), _without_saddles(_reach(back)))


def coarsen(
    front: NDArray[np.float32], back: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same body on a grid of fewer cells; front and back still agree on the outline."""
    factor = np.float32((side / front.shape[0]) ** 2)
    coarse_front, coarse_back = (scale(half, side, side) * factor for half in (front, back))
    barely = np.float32(1e-6)
    agreed = np.where(coarse_front > 0, np.maximum(coarse_back, barely), np.minimum(coarse_back, -barely))
    return coarse_front, agreed


def _reach(squared: NDArray[np.float32]) -> NDArray[np.int32]:
    inside = squared > 0
    return np.where(inside, np.sqrt(np.maximum(squared, 0)), NOTHING).astype(np.int32)


def _without_saddles(reach: NDArray[np.int32]) -> NDArray[np.int32]:
    """Raise the higher of the two low columns in every two-by-two block whose other diagonal towers over both.

    A column that is not part of the body joins it only where both low ones are not: a matter of the outline alone, so
    front and back agree on it.
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
    """(column, level) of every level from `first` to `last` of each column, column by column; none where last < first.

    first, last: int32 [columns].
    """
    length = np.maximum(last - first + 1, 0)
    column = np.repeat(np.arange(first.size, dtype=np.int32), length)
    start = np.cumsum(length) - length
    return column, (np.arange(column.size) - (start - first)[column]).astype(np.int32)
