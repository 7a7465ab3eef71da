"""Remesh any surface as one closed, manifold outer mesh.

1. Build the offset mesh: the iso-surface of the unsigned distance field at a small distance (`offset_surface`).
2. Split its quads and drop the shells of sealed cavities (`cavity_removal`).
3. Project the rest back onto the surface. A closed surface keeps its outer side only; an open sheet keeps both sides,
   a fraction of a cell apart.
4. Where the surface is rougher than the target's triangles can show, smooth it (`smoothing`).
"""

import math
from typing import Any

import numpy as np
import warp as wp

from worker.extraction.mesh.geometry import projected_areas
from worker.extraction.mesh.topology import compact_mesh
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.remesh.cavity_removal import exterior_faces
from worker.extraction.remesh.offset_surface import build_offset_mesh
from worker.extraction.remesh.smoothing import smooth

# No corner of a cell that the surface crosses is farther from it than this many cells: the offset mesh has no holes.
MIN_OFFSET_CELLS = math.sqrt(3) / 2
SHEET_CELLS = 0.25  # half the thickness that an open sheet keeps, in cells of the attribute grid
MIN_FACES = 200_000  # fewer save half a second and double the largest distance from the surface
GPU_DETAIL = 2.0  # factor on the faces there, where they cost a tenth of a second: fewer creases are bridged
# Faces of an offset mesh with both sides, per cell area of the surface's area projected along the axes:
FACES_PER_PROJECTED_CELL = 4.0
# With less than this part of them the mesh has bridged the surface's detail (measured: 0.6 to 0.84 for noise, 0.91 and
# more for sharp edges and bends, at any cell size):
ROUGH_FACE_SHARE = 0.88
FINER_CELLS = 0.4  # factor on the cell size for a second attempt then
ROUNDS_PER_FACE = 0.5  # smoothing rounds on a rough surface, per face that one triangle of the target replaces
MAX_ROUNDS = 16
MAX_MOVE_CELLS = 2.0  # largest distance that smoothing may move a vertex, in cells of the attribute grid


def remesh(
    original: wp.Mesh,
    *,
    target_faces: int,
    finest_cell_m: float,
    band: float,
    project: float,
    keep_hidden: bool,
    step: ProgressCallback,
) -> tuple[wp.array, wp.array]:
    """Return the outer side of a surface as a closed mesh on its device: vec3 [vertices], int32 [faces, 3].

    Args:
        finest_cell_m: lower bound of the distance grid's cell, metres: the attribute grid's cell.
        band: the offset distance, in units of the smallest one that leaves no holes; gaps up to twice that distance
            are bridged.
        project: 0 keeps an open sheet's two sides apart, 1 makes them coincide.
        keep_hidden: keep the shells of sealed cavities too.
    """
    faces = original.indices.reshape((-1, 3))
    detail = GPU_DETAIL if original.points.device.is_cuda else 1.0
    area = float(projected_areas(original.points, faces).sum()) / 2
    cell_m = max(finest_cell_m, _cell_size(area, len(faces), target_faces, detail))
    positions, quads, distance_m = _offset(original, cell_m, band, lambda fraction: step(0.3 * fraction))
    is_rough = 2 * len(quads) < ROUGH_FACE_SHARE * FACES_PER_PROJECTED_CELL * area / cell_m**2
    if is_rough and cell_m > finest_cell_m:
        cell_m = max(finest_cell_m, FINER_CELLS * cell_m)
        positions, quads, distance_m = _offset(original, cell_m, band, lambda fraction: step(0.3 + 0.3 * fraction))
    triangles = triangulate_quads(positions, quads)
    step(0.65)
    kept = exterior_faces(positions, triangles)
    if keep_hidden:
        kept.fill_(1)
    positions, triangles = compact_mesh(positions, triangles, kept)
    step(0.8)
    before = wp.clone(positions)
    thickness_m = SHEET_CELLS * finest_cell_m * (1 - project)
    is_solid = _project_onto_surface(original, before, positions, triangles, distance_m, thickness_m)
    if is_rough:
        rounds = min(MAX_ROUNDS, round(ROUNDS_PER_FACE * len(triangles) / target_faces))
        max_move_m = MAX_MOVE_CELLS * finest_cell_m
        smooth(before, positions, triangles, movable=is_solid, rounds=rounds, max_move_m=max_move_m)
    return positions, triangles


def _cell_size(area: float, face_count: int, target_faces: int, detail: float) -> float:
    """Return the cell size, metres, that gives the simplifier enough faces to choose from, and not many more."""
    offset_faces = detail * np.clip(12 * target_faces, 2 * MIN_FACES, max(2 * MIN_FACES, 6 * face_count))
    return float(np.sqrt(FACES_PER_PROJECTED_CELL * area / offset_faces))


def _offset(original: wp.Mesh, cell_m: float, band: float, step: ProgressCallback) -> tuple[wp.array, wp.array, float]:
    """Return the offset mesh's vertices and quads, and its distance from the surface in metres."""
    distance_m = MIN_OFFSET_CELLS * cell_m * band
    return *build_offset_mesh(original, cell_m, distance_m, step), distance_m


def triangulate_quads(positions: wp.array, quads: wp.array) -> wp.array:
    """Split each quad along its shorter diagonal; int32 [2 * quads, 3]."""
    triangles = wp.empty((2 * len(quads), 3), dtype=wp.int32, device=positions.device)
    wp.launch(_split_quads, dim=len(quads), inputs=[positions, quads, triangles], device=positions.device)
    return triangles


def _project_onto_surface(
    original: wp.Mesh, before: wp.array, positions: wp.array, faces: wp.array, distance_m: float, thickness_m: float
) -> wp.array:
    """Move the offset mesh onto the surface in place; on open sheets stop `thickness_m` short of it.

    Args:
        before: a copy of `positions`, for the rays.

    Returns:
        which vertices are on solid parts rather than on such sheets; bool [vertices].
    """
    offset_mesh = wp.Mesh(before, faces.flatten())
    is_solid = wp.empty(len(positions), dtype=wp.bool, device=positions.device)
    inputs: list[Any] = [original.id, offset_mesh.id, distance_m, thickness_m, positions, is_solid]
    wp.launch(_project_vertices, dim=len(positions), inputs=inputs, device=positions.device)
    return is_solid


@wp.kernel
def _project_vertices(
    original: wp.uint64,
    offset_mesh: wp.uint64,
    distance_m: wp.float32,
    thickness_m: wp.float32,
    positions: wp.array[wp.vec3],
    is_solid: wp.array[wp.bool],
) -> None:
    """Project one vertex onto the nearest point of the surface."""
    vertex = wp.tid()
    start = positions[vertex]
    # 1. The nearest point, and the direction from it to the vertex.
    nearest = wp.mesh_query_point_no_sign(original, start, 1.0e9)
    target = wp.mesh_eval_position(original, nearest.face, nearest.u, nearest.v)
    outward = (start - target) / wp.max(wp.length(start - target), 1.0e-12)
    # 2. A ray through the surface. If it soon leaves the offset mesh on the other side, this is a thin sheet.
    through = wp.mesh_query_ray(offset_mesh, target + outward * (distance_m * 0.5), -outward, distance_m * 2.5)
    offset = float(0.0)
    is_solid[vertex] = True
    if through.result:
        if wp.dot(through.normal, outward) < 0.0:
            offset = thickness_m
            is_solid[vertex] = False
    # 3. Onto the surface, or a little above it.
    positions[vertex] = target + outward * offset


@wp.kernel
def _split_quads(positions: wp.array[wp.vec3], quads: wp.array2d[wp.int32], triangles: wp.array2d[wp.int32]) -> None:
    """Write the two triangles of one quad: rows `quad` and `quads + quad`."""
    quad = wp.tid()
    a = positions[quads[quad, 0]]
    b = positions[quads[quad, 1]]
    c = positions[quads[quad, 2]]
    d = positions[quads[quad, 3]]
    # Start at corner 1 if its diagonal is the shorter one.
    turn = int(0)
    if wp.length_sq(a - c) > wp.length_sq(b - d):
        turn = 1
    second = quads.shape[0] + quad
    for column in range(2):
        triangles[quad, column] = quads[quad, (turn + column) % 4]
        triangles[second, 1 + column] = quads[quad, (turn + 2 + column) % 4]
    triangles[quad, 2] = quads[quad, (turn + 2) % 4]
    triangles[second, 0] = quads[quad, turn]
