"""Smooth what is left of a rough surface once a skin lies on it.

Detail that is finer than the triangles to come cannot be kept. What the simplifier makes of it are creases that are not
there, each of which ends a chart; so it is averaged away first, where it is, and nowhere else.
"""

from typing import Any

import warp as wp

from worker.extraction.mesh.adjacency import vertex_corners

CRUMPLED = wp.constant(0.06)  # how bent the skin is, in the mean around a vertex, from where it is no edge or corner
REACH_ROUNDS = 48  # of averaging for that mean: about seven vertices far, where an edge's own faces are few among many
COLLAPSED = wp.constant(0.05)  # of a face's area: with less than that left it has no direction any more,
COLLAPSED_TURN = wp.constant(0.3)  # and counts as turned by so much: on edges and corners every face collapses


def smooth(
    before: wp.array, skin: wp.array, corners: wp.array, *, movable: wp.array, rounds: int, reach_m: float
) -> None:
    """Average vertices with their neighbours, `rounds` times over, where the skin is crumpled: in place.

    before, skin: vec3 [vertices], where the skin was smooth and where it lies now. corners: int32 [faces, 3], a closed
    skin. movable: bool [vertices], those that may move at all. reach_m: how far each may move at most, metres.
    """
    if rounds == 0:
        return
    mesh = (corners, *vertex_corners(corners, len(skin)))
    everywhere = wp.full(len(skin), True, dtype=wp.bool, device=skin.device)
    bent = wp.empty(len(skin), dtype=wp.float32, device=skin.device)
    wp.launch(_bend, dim=len(skin), inputs=[before, skin, *mesh, bent], device=skin.device)
    crumpled = wp.empty_like(movable)
    inputs = [_averaged(bent, mesh, everywhere, REACH_ROUNDS), movable, crumpled]
    wp.launch(_tell, dim=len(skin), inputs=inputs, device=skin.device)
    inputs = [_averaged(skin, mesh, crumpled, rounds), reach_m, skin]
    wp.launch(_approach, dim=len(skin), inputs=inputs, device=skin.device)


def _averaged(values: wp.array, mesh: tuple[wp.array, ...], where: wp.array, rounds: int) -> wp.array:
    """Values of vertices, moved half the way to the mean of their neighbours' in each round."""
    now, then = wp.clone(values), wp.empty_like(values)
    for _ in range(rounds):
        wp.launch(_average, dim=len(values), inputs=[now, *mesh, where, then], device=values.device)
        now, then = then, now
    return now


@wp.func
def _cross(place: wp.array[wp.vec3], corners: wp.array2d[wp.int32], face: wp.int32) -> wp.vec3:
    a = place[corners[face, 0]]
    return wp.cross(place[corners[face, 1]] - a, place[corners[face, 2]] - a)


@wp.kernel
def _bend(
    before: wp.array[wp.vec3],
    skin: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    corner: wp.array[wp.int32],
    bent: wp.array[wp.float32],
) -> None:
    """How far the faces at a vertex have turned, in the mean: 0 not at all, 1 by a right angle or more."""
    vertex = wp.tid()
    total = float(0.0)
    for at in range(begin[vertex], end[vertex]):
        face = corner[at] / 3
        was = _cross(before, corners, face)
        now = _cross(skin, corners, face)
        turned = float(COLLAPSED_TURN)
        if wp.length(now) > COLLAPSED * wp.length(was):
            turned = wp.min(1.0 - wp.dot(wp.normalize(was), wp.normalize(now)), 1.0)
        total += turned
    bent[vertex] = total / wp.max(float(end[vertex] - begin[vertex]), 1.0)


@wp.kernel
def _average(
    now: wp.array[Any],
    corners: wp.array2d[wp.int32],
    begin: wp.array[wp.int32],
    end: wp.array[wp.int32],
    corner: wp.array[wp.int32],
    where: wp.array[wp.bool],
    then: wp.array[Any],
) -> None:
    vertex = wp.tid()
    value = now[vertex]
    if where[vertex] and begin[vertex] < end[vertex]:
        total = value * 0.0
        for at in range(begin[vertex], end[vertex]):  # on a closed skin each neighbour comes next in just one face
            total += now[corners[corner[at] / 3, (corner[at] % 3 + 1) % 3]]
        value = (value + total / float(end[vertex] - begin[vertex])) * 0.5
    then[vertex] = value


@wp.kernel
def _tell(bent: wp.array[wp.float32], movable: wp.array[wp.bool], crumpled: wp.array[wp.bool]) -> None:
    vertex = wp.tid()
    crumpled[vertex] = movable[vertex] and bent[vertex] > CRUMPLED


@wp.kernel
def _approach(target: wp.array[wp.vec3], reach_m: wp.float32, skin: wp.array[wp.vec3]) -> None:
    vertex = wp.tid()
    way = target[vertex] - skin[vertex]
    skin[vertex] += way * wp.min(1.0, reach_m / wp.max(wp.length(way), 1.0e-12))
