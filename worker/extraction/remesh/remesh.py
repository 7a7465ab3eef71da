"""Rebuild the topology of a surface: one closed, manifold outer wall instead of whatever came.

The surface is wrapped at a small distance, walls of sealed hollows are dropped, and what is left moves back onto the
surface. A closed surface keeps its outer side only; an open sheet keeps both sides, a fraction of a cell apart. Where
the surface is rougher than the triangles that are wanted can show, the skin is smoothed.
"""

import math
from typing import Any

import numpy as np
import warp as wp

from worker.extraction.mesh.compaction import compact_mesh
from worker.extraction.mesh.face_geometry import projected_areas
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.remesh.cavity_removal import exterior_faces
from worker.extraction.remesh.offset_surface import build_offset_mesh
from worker.extraction.remesh.smoothing import smooth

# No corner of a cell that the surface passes through is farther from it than this many cells: a skin has no holes.
GAPLESS_CELLS = math.sqrt(3) / 2
SHEET_CELLS = 0.25  # half the thickness that an open sheet keeps, in cells of the attribute grid
MIN_FACES = 200_000  # fewer save half a second and double how far the farthest places lie off
DETAIL_ON_GPU = 2.0  # so many times the faces there, where they cost a tenth of a second: creases are less bridged
# A skin with both walls has so many faces for each squared cell of the shadows that what it wraps casts on the axes:
FACES_PER_SHADOW = 4.0
# One with fewer than this part of them has bridged what the surface is made of (noise leaves 0.6 to 0.84, sharp edges
# and bends 0.91 and more, in cells of any size):
ROUGH = 0.88
FINER = 0.4  # it is made once more, in cells smaller by this
ROUNDS_PER_FACE = 0.5  # of smoothing a rough skin, for each of its faces that one triangle of the target stands for
MOST_ROUNDS = 16
REACH_CELLS = 2.0  # how far it may move a vertex, in cells of the attribute grid


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
    """The outer wall of a surface as a closed mesh, on its device: vec3 [vertices], int32 [faces, 3].

    band: distance of the wrapping skin, in units of the smallest distance that leaves no holes; gaps up to twice that
    distance are bridged. project: 0 keeps an open sheet's two sides apart, 1 lays them on each other. keep_hidden:
    keep the walls of sealed hollows too.
    """
    corners = original.indices.reshape((-1, 3))
    detail = DETAIL_ON_GPU if original.points.device.is_cuda else 1.0
    shadow = float(projected_areas(original.points, corners).sum()) / 2
    cell_m = max(finest_cell_m, _cell(shadow, len(corners), target_faces, detail))
    skin, quads, distance_m = _wrapped(original, cell_m, band, lambda fraction: step(0.3 * fraction))
    is_rough = 2 * len(quads) < ROUGH * FACES_PER_SHADOW * shadow / cell_m**2
    if is_rough and cell_m > finest_cell_m:
        cell_m = max(finest_cell_m, FINER * cell_m)
        skin, quads, distance_m = _wrapped(original, cell_m, band, lambda fraction: step(0.3 + 0.3 * fraction))
    triangles = triangulate_quads(skin, quads)
    step(0.65)
    kept = exterior_faces(skin, triangles)
    if keep_hidden:
        kept.fill_(1)
    skin, triangles = compact_mesh(skin, triangles, kept)
    step(0.8)
    before = wp.clone(skin)
    thick = _pull_back(original, before, skin, triangles, distance_m, SHEET_CELLS * finest_cell_m * (1 - project))
    if is_rough:
        rounds = min(MOST_ROUNDS, round(ROUNDS_PER_FACE * len(triangles) / target_faces))
        smooth(before, skin, triangles, movable=thick, rounds=rounds, reach_m=REACH_CELLS * finest_cell_m)
    return skin, triangles


def _cell(shadow: float, face_count: int, target_faces: int, detail: float) -> float:
    """The cell at which the skin has enough faces for the simplifier to choose from, and not many more."""
    wanted = detail * np.clip(12 * target_faces, 2 * MIN_FACES, max(2 * MIN_FACES, 6 * face_count))
    return float(np.sqrt(FACES_PER_SHADOW * shadow / wanted))


def _wrapped(original: wp.Mesh, cell_m: float, band: float, step: ProgressCallback) -> tuple[wp.array, wp.array, float]:
    """The skin's vertices and quads, and its distance from the surface."""
    distance_m = GAPLESS_CELLS * cell_m * band
    return *build_offset_mesh(original, cell_m, distance_m, step), distance_m


def triangulate_quads(place: wp.array, quads: wp.array) -> wp.array:
    """Two triangles for each quad, along its shorter diagonal; int32 [2 * quads, 3]."""
    triangles = wp.empty((2 * len(quads), 3), dtype=wp.int32, device=place.device)
    wp.launch(_split, dim=len(quads), inputs=[place, quads, triangles], device=place.device)
    return triangles


def _pull_back(
    original: wp.Mesh, before: wp.array, skin: wp.array, corners: wp.array, distance_m: float, thickness_m: float
) -> wp.array:
    """Move the skin onto the surface; where the way on through the surface soon leads out again, stop short of it.

    before: a copy of the skin as it is. Returns which vertices have something behind them that is no such sheet; bool
    [vertices].
    """
    wrapped = wp.Mesh(before, corners.flatten())
    thick = wp.empty(len(skin), dtype=wp.bool, device=skin.device)
    inputs: list[Any] = [original.id, wrapped.id, distance_m, thickness_m, skin, thick]
    wp.launch(_settle, dim=len(skin), inputs=inputs, device=skin.device)
    return thick


@wp.kernel
def _settle(
    original: wp.uint64,
    wrapped: wp.uint64,
    distance_m: wp.float32,
    thickness_m: wp.float32,
    skin: wp.array[wp.vec3],
    thick: wp.array[wp.bool],
) -> None:
    vertex = wp.tid()
    at = skin[vertex]
    nearest = wp.mesh_query_point_no_sign(original, at, 1.0e9)
    place = wp.mesh_eval_position(original, nearest.face, nearest.u, nearest.v)
    outward = (at - place) / wp.max(wp.length(at - place), 1.0e-12)
    through = wp.mesh_query_ray(wrapped, place + outward * (distance_m * 0.5), -outward, distance_m * 2.5)
    offset = float(0.0)
    thick[vertex] = True
    if through.result:
        if wp.dot(through.normal, outward) < 0.0:
            offset = thickness_m
            thick[vertex] = False
    skin[vertex] = place + outward * offset


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
