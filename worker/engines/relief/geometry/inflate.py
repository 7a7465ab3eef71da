"""The outline becomes a body: how far the surface bulges out of the picture's plane."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from worker.engines.relief.geometry.signed_distance import nearest_cell
from worker.engines.relief.resampling import blur, scale

COARSEST_SIDE = 128  # cells; solved directly, then refined level by level
SWEEPS = 30  # of Jacobi's method per level: enough for what the coarser level could not see
ROUNDNESS = 1.6  # 2 makes a long strip a round tube, less a flattened one
REACH = 0.3  # of the grid's side: how far from the rim the bulge still rises
CALM_CELLS = 1.5  # standard deviation of the blur that evens out the outline's steps

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)


def inflate(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """The square of the half thickness in every cell, in cells squared; negative outside the outline.

    distance: float32 [side, side], the signed distance to the outline in cells, negative on the grid's rim.

    Solves the screened Poisson equation u / reach^2 - laplacian(u) = roundness with u = 0 on the outline. A disc
    gives a spheroid and a strip a tube: thick parts come out thick and thin parts thin; the screening keeps large
    shapes from ballooning. The square root of u is smooth where the distance itself has ridges.
    Cascadic multigrid after Bornemann and Deuflhard, Numerische Mathematik 75 (1996).
    """
    solution = _solve(distance)
    inside = distance > 0
    # The solution is zero at the first centre outside; move its zero to the outline itself, and go on beyond it.
    slope = solution / (np.maximum(distance, 0) + 0.5)
    return _calm(np.where(inside, slope, slope[nearest_cell(inside)]) * distance)


def _calm(squared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Even out the steps of one cell that the outline has: where the body is thick they would run round it as grooves.

    What is thinner than a few cells stays as it is.
    """
    reach = 2 * round(3 * CALM_CELLS) + 1
    thickness = cv2.dilate(np.sqrt(np.maximum(squared, 0)), np.ones((reach, reach), np.uint8))
    share = np.clip((np.asarray(thickness, np.float32) - 2 * CALM_CELLS) / (4 * CALM_CELLS), 0, 1)
    return np.asarray(squared + (blur(squared, CALM_CELLS) - squared) * share, np.float32)


def _solve(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    side = distance.shape[0]
    inside = distance > 0
    if side <= COARSEST_SIDE or side % 2:
        return _solve_directly(inside)
    coarse = _solve(scale(distance, side // 2, side // 2))
    return _sweep(scale(coarse, side, side) * 4, inside)


def _sweep(solution: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    gain = inside.astype(np.float32) / (4 + _screening(inside.shape[0]))
    for _ in range(SWEEPS):
        solution = (cv2.filter2D(solution, -1, _CROSS, borderType=cv2.BORDER_CONSTANT) + ROUNDNESS) * gain
    return solution


def _solve_directly(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    side = inside.shape[0]
    place = np.flatnonzero(inside)
    solution = np.zeros(side * side, np.float32)
    if place.size:
        ones = np.ones(side * side)
        across = ones * (np.arange(side * side) % side > 0)  # no neighbours across a row's end
        grid = diags_array(
            [-ones[side:], -across[1:], ones * (4 + _screening(side)), -across[1:], -ones[side:]],
            offsets=[-side, -1, 0, 1, side],
        ).tocsc()
        solution[place] = spsolve(csc_array(grid[place][:, place]), np.full(place.size, ROUNDNESS))
    return solution.reshape(side, side)


def _screening(side: int) -> float:
    return 1 / (REACH * side) ** 2
