"""Bake the material into textures: each texel asks the volume at the nearest place on the original surface."""

from typing import Any

import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_vec3
from worker.extraction.kernels.texels import barycentric_weights, first_centre, last_centre
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.texture.attribute_volume import AttributeVolume, sample
from worker.extraction.uv.unwrap import UvLayout

CHANNELS = 6
STRIPS = 16  # of rows, with a step between them


def bake(
    vertices: NDArray[Any],
    layout: UvLayout,
    original: wp.Mesh,
    volume: AttributeVolume,
    texture_px: int,
    step: ProgressCallback,
) -> wp.array:
    """Texels of the charts and a rim of one texel around each; uint8 [rows, columns, 7] on the original's device.

    Channels: those of the volume (red, green, blue, metallic, roughness, alpha), then 255 where a texel was baked.
    vertices: float [vertices, 3] of the mesh that `layout` lays out.
    """
    device = str(original.points.device)
    place = to_vec3(vertices[layout.source], device)
    uv = wp.array(layout.uv * texture_px, dtype=wp.vec2, device=device)
    faces = wp.array(layout.faces, dtype=wp.int32, device=device)
    inner = wp.full((texture_px, texture_px), -1, dtype=wp.int32, device=device)
    outer = wp.full((texture_px, texture_px), -1, dtype=wp.int32, device=device)
    wp.launch(_cover, dim=len(layout.faces), inputs=[uv, faces, inner], device=device)
    wp.launch(_rim, dim=len(layout.faces), inputs=[uv, faces, inner, outer], device=device)
    texels = wp.zeros((texture_px, texture_px, CHANNELS + 1), dtype=wp.uint8, device=device)
    inputs = [uv, place, faces, inner, outer, original.id, volume.grid.index, volume.row, volume.attributes]
    rows = max(texture_px // STRIPS, 1)
    for first_row in range(0, texture_px, rows):
        step(first_row / texture_px)
        wp.launch(
            _bake, dim=(rows, texture_px), inputs=[*inputs, float(volume.resolution), first_row, texels], device=device
        )
    return texels


@wp.kernel
def _cover(uv: wp.array[wp.vec2], faces: wp.array2d[wp.int32], inner: wp.array2d[wp.int32]) -> None:
    face = wp.tid()
    a = uv[faces[face, 0]]
    b = uv[faces[face, 1]]
    c = uv[faces[face, 2]]
    for y in range(
        wp.max(first_centre(a[1], b[1], c[1]), 0), wp.min(last_centre(a[1], b[1], c[1]) + 1, inner.shape[0])
    ):
        for x in range(
            wp.max(first_centre(a[0], b[0], c[0]), 0), wp.min(last_centre(a[0], b[0], c[0]) + 1, inner.shape[1])
        ):
            if barycentric_weights(a, b, c, wp.vec2(float(x) + 0.5, float(y) + 0.5))[0] >= 0.0:
                inner[y, x] = face


@wp.func
def _nearest_weights(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2) -> wp.vec3:
    """Barycentric weights of the triangle's point nearest to p, a point outside it."""
    best = wp.vec3(1.0, 0.0, 0.0)
    best_distance = float(1.0e30)
    for side in range(3):
        s = wp.where(side == 0, a, wp.where(side == 1, b, c))
        e = wp.where(side == 0, b, wp.where(side == 1, c, a))
        along = e - s
        t = wp.clamp(wp.dot(p - s, along) / wp.max(wp.dot(along, along), 1.0e-20), 0.0, 1.0)
        distance = wp.length_sq(s + along * t - p)
        if distance < best_distance:
            best_distance = distance
            best = wp.vec3(0.0, 0.0, 0.0)
            best[side] = 1.0 - t
            best[(side + 1) % 3] = t
    return best


@wp.func
def _blend(a: wp.vec2, b: wp.vec2, c: wp.vec2, by: wp.vec3) -> wp.vec2:
    return a * by[0] + b * by[1] + c * by[2]


@wp.kernel
def _rim(
    uv: wp.array[wp.vec2],
    faces: wp.array2d[wp.int32],
    inner: wp.array2d[wp.int32],
    outer: wp.array2d[wp.int32],
) -> None:
    """Give texels that no face covers, but that bilinear filtering reads, to the nearest face within their reach.

    The upper bits say how near, the lower 24 which face.
    """
    face = wp.tid()
    a = uv[faces[face, 0]]
    b = uv[faces[face, 1]]
    c = uv[faces[face, 2]]
    for y in range(
        wp.max(first_centre(a[1], b[1], c[1]) - 1, 0), wp.min(last_centre(a[1], b[1], c[1]) + 2, inner.shape[0])
    ):
        for x in range(
            wp.max(first_centre(a[0], b[0], c[0]) - 1, 0), wp.min(last_centre(a[0], b[0], c[0]) + 2, inner.shape[1])
        ):
            if inner[y, x] < 0:
                p = wp.vec2(float(x) + 0.5, float(y) + 0.5)
                away = wp.length(_blend(a, b, c, _nearest_weights(a, b, c, p)) - p)
                if away < 1.5:
                    wp.atomic_max(outer, y, x, (127 - int(away * 80.0)) << 24 | face)


@wp.func
def _byte(value: wp.float32) -> wp.uint8:
    return wp.uint8(wp.clamp(value, 0.0, 1.0) * 255.0 + 0.5)


@wp.kernel
def _bake(
    uv: wp.array[wp.vec2],
    place: wp.array[wp.vec3],
    faces: wp.array2d[wp.int32],
    inner: wp.array2d[wp.int32],
    outer: wp.array2d[wp.int32],
    original: wp.uint64,
    index: wp.array3d[wp.int32],
    row: wp.array[wp.int32],
    attributes: wp.array2d[wp.float32],
    resolution: wp.float32,
    first_row: wp.int32,
    texels: wp.array3d[wp.uint8],
) -> None:
    row_of_strip, x = wp.tid()
    y = first_row + row_of_strip
    face = inner[y, x]
    if face < 0:
        if outer[y, x] < 0:
            return
        face = outer[y, x] & 0xFFFFFF
    i = faces[face, 0]
    j = faces[face, 1]
    k = faces[face, 2]
    p = wp.vec2(float(x) + 0.5, float(y) + 0.5)
    by = barycentric_weights(uv[i], uv[j], uv[k], p)
    if by[0] < 0.0:
        by = _nearest_weights(uv[i], uv[j], uv[k], p)
    point = place[i] * by[0] + place[j] * by[1] + place[k] * by[2]
    query = wp.mesh_query_point_no_sign(original, point, 1.0e9)
    if query.result:
        point = wp.mesh_eval_position(original, query.face, query.u, query.v)
    material = sample(index, row, attributes, (point + wp.vec3(0.5, 0.5, 0.5)) * resolution)
    if material.filled == 1:
        for channel in range(3):
            texels[y, x, channel] = _byte(material.colour[channel])
            texels[y, x, 3 + channel] = _byte(material.surface[channel])
        texels[y, x, 6] = wp.uint8(255)
