"""Inflate a silhouette: signed distance to its outline, thickness by a Poisson equation, fine depth from shading.

Thickness is measured in cells of the grid, as half thickness from the middle plane.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from worker.engines.relief.raster_ops import blur, blur_within, scale

SUPERSAMPLING = 2  # of the grid on which distances are measured

COARSEST_SIDE = 128  # cells; this level is solved directly
JACOBI_ROUNDS = 30  # per level: enough for the detail that the coarser level lacks
ROUNDNESS = 1.6  # 2 makes a long strip a round tube, less a flattened one
REACH = 0.3  # of the grid's side: how far from the outline the thickness still rises
STEP_BLUR_CELLS = 1.5  # standard deviation of the blur that removes the outline's steps

BUMP_DEPTH = 0.009  # of the grid's side: how far shading moves the surface at most
NOISE_DEPTH = 0.0003  # of the grid's side: standard deviation of the seeded noise

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)


def signed_distance(alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance to the outline at the centre of every cell, in cells, positive inside.

    Measured on a grid twice as fine, so that the outline is smooth to a fraction of a cell, and details one cell wide
    survive.

    Args:
        alpha: float32 [rows, columns], coverage in [0, 1]; the outline is where it passes 1/2.
    """
    rows, columns = alpha.shape
    inside = (scale(alpha, columns * SUPERSAMPLING, rows * SUPERSAMPLING) > 0.5).astype(np.uint8)
    distance = _distance_inside(inside) - _distance_inside(1 - inside)
    return scale(blur(distance, 1.0), columns, rows) / np.float32(SUPERSAMPLING)


def nearest_cell(targets: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (row, column) of the nearest target cell, for every cell; there must be a target."""
    _, labels = cv2.distanceTransformWithLabels(
        (~targets).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cells = np.flatnonzero(targets)
    cell_of_label = np.zeros(labels.max() + 1, np.intp)
    cell_of_label[labels.ravel()[cells]] = cells
    return np.divmod(cell_of_label[labels], targets.shape[1])


def _distance_inside(inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV measures between cell centres; the outline is half a cell before the first centre outside.
    return np.asarray(np.maximum(distance - 0.5, 0), np.float32)


def inflate(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the square of the half thickness in every cell, in cells squared; negative outside of the outline.

    Solves the screened Poisson equation u / reach^2 - laplacian(u) = roundness with u = 0 on the outline, by cascadic
    multigrid (Bornemann and Deuflhard, Numerische Mathematik 75, 1996). A disc gives a spheroid and a strip a tube:
    thick parts come out thick and thin parts thin; the screening keeps large shapes from ballooning. The square root
    of u is smooth where the distance itself has ridges.

    Args:
        distance: float32 [side, side], signed distance to the outline in cells, negative at the grid's edge.
    """
    solution = _solve(distance)
    inside = distance > 0
    # The solution is zero at the first centre outside; move its zero to the outline itself, and continue beyond it.
    slope = solution / (np.maximum(distance, 0) + 0.5)
    return _smooth_steps(np.where(inside, slope, slope[nearest_cell(inside)]) * distance)


def _smooth_steps(squared: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur the outline's steps of one cell where the body is thick: they would continue over it as grooves.

    Parts that are a few cells thin are returned unchanged.
    """
    width = 2 * round(3 * STEP_BLUR_CELLS) + 1
    thickness = cv2.dilate(np.sqrt(np.maximum(squared, 0)), np.ones((width, width), np.uint8))
    share = np.clip((np.asarray(thickness, np.float32) - 2 * STEP_BLUR_CELLS) / (4 * STEP_BLUR_CELLS), 0, 1)
    return np.asarray(squared + (blur(squared, STEP_BLUR_CELLS) - squared) * share, np.float32)


def _solve(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Solve on half the grid first; its solution is the starting point here."""
    side = distance.shape[0]
    inside = distance > 0
    if side <= COARSEST_SIDE or side % 2:
        return _solve_directly(inside)
    coarse = _solve(scale(distance, side // 2, side // 2))
    return _run_jacobi(scale(coarse, side, side) * 4, inside)


def _run_jacobi(solution: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    gain = inside.astype(np.float32) / (4 + _screening(inside.shape[0]))
    for _ in range(JACOBI_ROUNDS):
        solution = (cv2.filter2D(solution, -1, _CROSS, borderType=cv2.BORDER_CONSTANT) + ROUNDNESS) * gain
    return solution


def _solve_directly(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    side = inside.shape[0]
    cells = np.flatnonzero(inside)
    solution = np.zeros(side * side, np.float32)
    if cells.size:
        ones = np.ones(side * side)
        across = ones * (np.arange(side * side) % side > 0)  # no neighbours across a row's end
        grid = diags_array(
            [-ones[side:], -across[1:], ones * (4 + _screening(side)), -across[1:], -ones[side:]],
            offsets=[-side, -1, 0, 1, side],
        ).tocsc()
        solution[cells] = spsolve(csc_array(grid[cells][:, cells]), np.full(cells.size, ROUNDNESS))
    return solution.reshape(side, side)


def _screening(side: int) -> float:
    return 1 / (REACH * side) ** 2


def shading_bumps(colour: NDArray[np.float32], distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far shading moves the surface towards the viewer, in cells: float32 [side, side].

    Under diffuse light, what is darker than its surroundings mostly is deeper (compare Langer and Zucker,
    Shape-from-Shading on a Cloudy Day, 1994).
    Two sizes of surroundings; nothing moves at the outline.
    """
    side = colour.shape[0]
    inside = distance > 0
    light = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), np.float32)
    fine, middle, wide = (blur_within(light, inside, side * width) for width in (0.0025, 0.012, 0.04))
    relief = np.tanh((0.7 * (fine - middle) + 0.4 * (middle - wide)) / 0.2)
    return np.asarray(relief * (BUMP_DEPTH * side) * np.clip(distance / (0.02 * side), 0, 1), np.float32)


def seeded_noise(side: int, seed: int) -> NDArray[np.float32]:
    """Return smooth noise of two sizes in cells, float32 [side, side]: no two seeds give exactly the same surface."""
    random = np.random.default_rng(seed)
    total = np.zeros((side, side), np.float32)
    for knots in (8, 40):
        noise = random.standard_normal((knots, knots), np.float32)
        total += scale(noise, side, side)
    return blur(total, side / 256) * (NOISE_DEPTH * side)
