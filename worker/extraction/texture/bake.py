"""Bake the material into a texture: sample the volume at the point of the original surface closest to each texel."""

from typing import Any

import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import MAX_DISTANCE_M, to_vec3
from worker.extraction.kernels.texels import (
    barycentric_weights,
    closest_weights,
    covers_texel,
    first_centre,
    last_centre,
)
from worker.extraction.model.asset import ProgressCallback
from worker.extraction.texture.attribute_volume import AttributeVolume, sample
from worker.extraction.uv.unwrap import UvLayout

CHANNELS = 6
STRIPS = 16  # launches for the rows of a texture; progress is reported between them


def bake(
    vertices: NDArray[Any],
    layout: UvLayout,
    original: wp.Mesh,
    volume: AttributeVolume,
    texture_px: int,
    progress: ProgressCallback,
) -> wp.array:
    """Bake the texels of the charts, and one texel of gutter around each chart.

    Args:
        vertices: float [vertices, 3], of the mesh that `layout` unwraps.

    Returns:
        uint8 [rows, columns, 7] on the device of `original`: the channels of the volume, then 255 if the texel was
        baked, else 0.
    """
    device = str(original.points.device)
    positions = to_vec3(vertices[layout.source], device)
    uv = wp.array(layout.uv * texture_px, dtype=wp.vec2, device=device)
    faces = wp.array(layout.faces, dtype=wp.int32, device=device)
    inner = wp.full((texture_px, texture_px), -1, dtype=wp.int32, device=device)
    outer = wp.full((texture_px, texture_px), -1, dtype=wp.int32, device=device)
    wp.launch(_assign_faces, dim=len(layout.faces), inputs=[uv, faces, inner], device=device)
    wp.launch(_assign_gutter, dim=len(layout.faces), inputs=[uv, faces, inner, outer], device=device)
    texels = wp.zeros((texture_px, texture_px, CHANNELS + 1), dtype=wp.uint8, device=device)
    inputs = [uv, positions, faces, inner, outer, original.id, volume]
    rows = max(texture_px // STRIPS, 1)
    for first_row in range(0, texture_px, rows):
        progress(first_row / texture_px)
        wp.launch(_bake, dim=(rows, texture_px), inputs=[*inputs, first_row, texels], device=device)
    return texels


@wp.kernel
def _assign_faces(uv: wp.array[wp.vec2], faces: wp.array2d[wp.int32], inner: wp.array2d[wp.int32]) -> None:
    """Write each texel's face; unwrapping guarantees that there is at most one."""
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
            if covers_texel(a, b, c, x, y):
                inner[y, x] = face


@wp.kernel
def _assign_gutter(
    uv: wp.array[wp.vec2],
    faces: wp.array2d[wp.int32],
    inner: wp.array2d[wp.int32],
    outer: wp.array2d[wp.int32],
) -> None:
    """Assign texels that no face covers, but that bilinear filtering reads, to the closest face within 1.5 texels.

    outer: the upper bits are higher the closer the face is, the lower 24 are its number.
    """
    face = wp.tid()
    a = uv[faces[face, 0]]
    b = uv[faces[face, 1]]
    c = uv[faces[face, 2]]
    # Visit the face's box, one texel wider.
    for y in range(
        wp.max(first_centre(a[1], b[1], c[1]) - 1, 0), wp.min(last_centre(a[1], b[1], c[1]) + 2, inner.shape[0])
    ):
        for x in range(
            wp.max(first_centre(a[0], b[0], c[0]) - 1, 0), wp.min(last_centre(a[0], b[0], c[0]) + 2, inner.shape[1])
        ):
            if inner[y, x] < 0:
                # Measure the distance to the face, and keep the closest face.
                p = wp.vec2(float(x) + 0.5, float(y) + 0.5)
                weights = closest_weights(a, b, c, p)
                distance = wp.length(a * weights[0] + b * weights[1] + c * weights[2] - p)
                if distance < 1.5:
                    wp.atomic_max(outer, y, x, (127 - int(distance * 80.0)) << 24 | face)


@wp.func
def _to_byte(value: wp.float32) -> wp.uint8:
    return wp.uint8(wp.clamp(value, 0.0, 1.0) * 255.0 + 0.5)


@wp.kernel
def _bake(
    uv: wp.array[wp.vec2],
    positions: wp.array[wp.vec3],
    faces: wp.array2d[wp.int32],
    inner: wp.array2d[wp.int32],
    outer: wp.array2d[wp.int32],
    original: wp.uint64,
    volume: AttributeVolume,
    first_row: wp.int32,
    texels: wp.array3d[wp.uint8],
) -> None:
    # Find the texel's face.
    row_of_strip, x = wp.tid()
    y = first_row + row_of_strip
    face = inner[y, x]
    if face < 0:
        if outer[y, x] < 0:
            return
        face = outer[y, x] & 0xFFFFFF
    # Compute the texel's point on the face, in the gutter the closest point of the face.
    i = faces[face, 0]
    j = faces[face, 1]
    k = faces[face, 2]
    p = wp.vec2(float(x) + 0.5, float(y) + 0.5)
    weights = barycentric_weights(uv[i], uv[j], uv[k], p)
    if weights[0] < 0.0:
        weights = closest_weights(uv[i], uv[j], uv[k], p)
    point = positions[i] * weights[0] + positions[j] * weights[1] + positions[k] * weights[2]
    # Move it to the original surface.
    query = wp.mesh_query_point_no_sign(original, point, MAX_DISTANCE_M)
    if query.result:
        point = wp.mesh_eval_position(original, query.face, query.u, query.v)
    # Sample the volume, which fills the cube from -0.5 m to 0.5 m.
    material = sample(volume, (point + wp.vec3(0.5, 0.5, 0.5)) * volume.resolution)
    if material.filled == 1:
        for channel in range(3):
            texels[y, x, channel] = _to_byte(material.colour[channel])
            texels[y, x, 3 + channel] = _to_byte(material.surface[channel])
        texels[y, x, 6] = wp.uint8(255)
