"""Laplacian smoothing of an offset mesh, only where the surface is too rough for the triangles to come.

Detail finer than the target's triangles cannot be kept. The simplifier would turn it into false creases, each of which
ends a UV chart; so it is averaged away beforehand, in rough regions and nowhere else: Laplacian smoothing with uniform
weights and step 1/2, without the second step by which Taubin (1995) prevents shrinkage. Roughness is how far faces
turned while the offset mesh was projected onto the surface.
"""

from typing import Any

import warp as wp

from worker.extraction.mesh.topology import VertexCorners, next_vertex, vertex_corners

ROUGH_TURN = wp.constant(0.06)  # mean turn of the faces in a neighbourhood, above which it is no single edge or corner
NEIGHBOURHOOD_ROUNDS = 48  # averaging rounds for that mean: about seven vertices far, where one edge's faces are few
COLLAPSED_AREA = wp.constant(0.05)  # a face with less than this part of its area left has no reliable direction,
COLLAPSED_TURN = wp.constant(0.3)  # and counts as turned by this: at edges and corners every face collapses


def smooth(
    before: wp.array, positions: wp.array, faces: wp.array, *, movable: wp.array, rounds: int, max_move_m: float
) -> None:
    """Smooth the rough regions of a mesh in place.

    Args:
        before: vec3 [vertices], the offset mesh, which is smooth. positions: vec3 [vertices], its projection onto the
            surface; updated. faces: int32 [faces, 3], closed. movable: bool [vertices], which may move at all.
        rounds: averages over the direct neighbours. max_move_m: largest distance that a vertex may move, metres.
    """
    if rounds == 0:
        return
    mesh = vertex_corners(faces, len(positions))
    everywhere = wp.full(len(positions), True, dtype=wp.bool, device=positions.device)
    turn = wp.empty(len(positions), dtype=wp.float32, device=positions.device)
    wp.launch(_measure_turn, dim=len(positions), inputs=[before, positions, mesh, turn], device=positions.device)
    is_rough = wp.empty_like(movable)
    inputs = [_averaged(turn, mesh, everywhere, NEIGHBOURHOOD_ROUNDS), movable, is_rough]
    wp.launch(_select_rough, dim=len(positions), inputs=inputs, device=positions.device)
    inputs = [_averaged(positions, mesh, is_rough, rounds), max_move_m, positions]
    wp.launch(_move_towards, dim=len(positions), inputs=inputs, device=positions.device)


def _averaged(values: wp.array, mesh: VertexCorners, where: wp.array, rounds: int) -> wp.array:
    """Return the vertices' values after `rounds` steps, each half the way to the mean of the neighbours."""
    current, following = wp.clone(values), wp.empty_like(values)
    for _ in range(rounds):
        wp.launch(_average, dim=len(values), inputs=[current, mesh, where, following], device=values.device)
        current, following = following, current
    return current


@wp.func
def _cross(positions: wp.array[wp.vec3], faces: wp.array2d[wp.int32], face: wp.int32) -> wp.vec3:
    a = positions[faces[face, 0]]
    return wp.cross(positions[faces[face, 1]] - a, positions[faces[face, 2]] - a)


@wp.kernel
def _measure_turn(
    before: wp.array[wp.vec3],
    positions: wp.array[wp.vec3],
    mesh: VertexCorners,
    turn: wp.array[wp.float32],
) -> None:
    """Measure how far the faces at one vertex have turned, on average: 0 for not at all, 1 for 90 degrees or more."""
    vertex = wp.tid()
    total = float(0.0)
    for at in range(mesh.begin[vertex], mesh.end[vertex]):
        face = mesh.corner[at] / 3
        normal_before = _cross(before, mesh.faces, face)
        normal_now = _cross(positions, mesh.faces, face)
        # A collapsed face has a random direction: a fixed turn stands in.
        turned = float(COLLAPSED_TURN)
        if wp.length(normal_now) > COLLAPSED_AREA * wp.length(normal_before):
            turned = wp.min(1.0 - wp.dot(wp.normalize(normal_before), wp.normalize(normal_now)), 1.0)
        total += turned
    turn[vertex] = total / wp.max(float(mesh.end[vertex] - mesh.begin[vertex]), 1.0)


@wp.kernel
def _average(
    current: wp.array[Any],
    mesh: VertexCorners,
    where: wp.array[wp.bool],
    following: wp.array[Any],
) -> None:
    """Move one vertex's value half the way to the mean of its neighbours'; copy it where `where` is false."""
    vertex = wp.tid()
    value = current[vertex]
    if where[vertex] and mesh.begin[vertex] < mesh.end[vertex]:
        total = value * 0.0
        # On a closed mesh each neighbour is the next corner in exactly one face.
        for at in range(mesh.begin[vertex], mesh.end[vertex]):
            total += current[next_vertex(mesh.faces, mesh.corner[at])]
        value = (value + total / float(mesh.end[vertex] - mesh.begin[vertex])) * 0.5
    following[vertex] = value


@wp.kernel
def _select_rough(turn: wp.array[wp.float32], movable: wp.array[wp.bool], is_rough: wp.array[wp.bool]) -> None:
    """Select one vertex if it may move and its neighbourhood is rough."""
    vertex = wp.tid()
    is_rough[vertex] = movable[vertex] and turn[vertex] > ROUGH_TURN


@wp.kernel
def _move_towards(target: wp.array[wp.vec3], max_move_m: wp.float32, positions: wp.array[wp.vec3]) -> None:
    """Move one vertex to its target, but no farther than `max_move_m`."""
    vertex = wp.tid()
    move = target[vertex] - positions[vertex]
    positions[vertex] += move * wp.min(1.0, max_move_m / wp.max(wp.length(move), 1.0e-12))
