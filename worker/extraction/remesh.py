"""Rebuild the topology of a surface: one closed, manifold outer wall instead of whatever came.

The surface is wrapped at a small distance, walls of sealed hollows are dropped, and what is left moves back onto the
surface. A closed surface keeps its outer side only; an open sheet keeps both sides, a fraction of a cell apart.
"""

import math
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction import kernels
from worker.extraction.asset import Step
from worker.extraction.compact import only_used
from worker.extraction.faces import double_areas
from worker.extraction.walls import reachable
from worker.extraction.wrap import wrap

# No corner of a cell that the surface passes through is farther from it than this many cells: a skin has no holes.
GAPLESS_CELLS = math.sqrt(3) / 2
SHEET_CELLS = 0.25  # half the thickness that an open sheet keeps, in cells of the attribute grid
MIN_FACES = 200_000  # below this a coarser grid saves no time that matters
FACES_PER_AREA = 6.0  # a skin with both walls has about so many faces per squared cell of the surface it wraps


def remesh(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    *,
    target_faces: int,
    finest_cell_m: float,
    band: float,
    project: float,
    device: str,
    step: Step,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The outer wall of a surface as a closed mesh: float32 [vertices, 3], int32 [faces, 3].

    band: distance of the wrapping skin, in units of the smallest distance that leaves no holes; gaps up to twice that
    distance are bridged. project: 0 keeps an open sheet's two sides apart, 1 lays them on each other.
    """
    cell_m = max(finest_cell_m, _cell(vertices, faces, target_faces, device))
    original = kernels.mesh(vertices, faces, device)
    distance_m = GAPLESS_CELLS * cell_m * band
    skin, quads = wrap(original, cell_m, distance_m, lambda fraction: step(0.6 * fraction))
    triangles = split(skin, quads, device)
    step(0.65)
    kept = triangles[reachable(skin, triangles, device)]
    used, kept = only_used(kept, len(skin))
    step(0.8)
    skin = skin[used]
    thickness_m = SHEET_CELLS * finest_cell_m * (1 - project)
    return _pull_back(original, skin, kept, distance_m, thickness_m), kept


def _cell(vertices: NDArray[Any], faces: NDArray[Any], target_faces: int, device: str) -> float:
    """The cell at which the skin has enough faces for the simplifier to choose from, and not many more."""
    area = double_areas(vertices, faces, device).sum() / 2
    wanted = np.clip(12 * target_faces, 2 * MIN_FACES, max(2 * MIN_FACES, 6 * len(faces)))
    return float(np.sqrt(FACES_PER_AREA * area / wanted))


def split(vertices: NDArray[np.float32], quads: NDArray[np.int32], device: str = "cpu") -> NDArray[np.int32]:
    """Two triangles for each quad, along its shorter diagonal; int32 [2 * quads, 3]."""
    triangles = wp.empty((2 * len(quads), 3), dtype=wp.int32, device=device)
    inputs = [kernels.vectors(vertices, device), kernels.integers(quads, device), triangles]
    wp.launch(_split, dim=len(quads), inputs=inputs, device=device)
    halves: NDArray[np.int32] = triangles.numpy()
    return halves


def _pull_back(
    original: Any, skin: NDArray[np.float32], faces: NDArray[np.int32], distance_m: float, thickness_m: float
) -> NDArray[np.float32]:
    """Move the skin onto the surface; where the way on through the surface soon leads out again, stop short of it."""
    place, distance = kernels.closest(original, skin)
    outward = ((skin - place) / np.maximum(distance, 1e-12)[:, None]).astype(np.float32)
    device = str(original.points.device)
    start = place + outward * (distance_m / 2)
    _, cosine = kernels.first_hits(kernels.mesh(skin, faces, device), start, -outward, reach=2.5 * distance_m)
    offset = np.where(cosine > 0, thickness_m, 0)[:, None]
    moved: NDArray[np.float32] = (place + outward * offset).astype(np.float32)
    return moved


@wp.kernel
def _split(place: wp.array[wp.vec3], quads: wp.array2d[wp.int32], triangles: wp.array2d[wp.int32]) -> None:
    quad = wp.tid()
    a = place[quads[quad, 0]]
    b = place[quads[quad, 1]]
    c = place[quads[quad, 2]]
    d = place[quads[quad, 3]]
    turn = int(0)
    if wp.length_sq(a - c) > wp.length_sq(b - d):
        turn = 1
    other = quads.shape[0] + quad
    for column in range(2):
        triangles[quad, column] = quads[quad, (turn + column) % 4]
        triangles[other, 1 + column] = quads[quad, (turn + 2 + column) % 4]
    triangles[quad, 2] = quads[quad, (turn + 2) % 4]
    triangles[other, 0] = quads[quad, turn]
