"""The poster's kernels: faces into samples, rays for the light, shading."""

import warp as wp

from worker.extraction.kernels.texels import (
    barycentric_weights,
    first_centre,
    last_centre,
    linear_to_srgb,
    srgb_to_linear,
)
from worker.extraction.render.camera import HALF_VIEW
from worker.extraction.render.lighting import KEY, backdrop_colour, shade

RAYS = 24
FLOOR_RAYS = 48
LEVEL = wp.constant(0.002)  # samples of a pixel on one plane, within this part of the object's size, are lit alike


@wp.func
def _flat(point: wp.vec3) -> wp.vec2:
    return wp.vec2(point[0], point[1])


@wp.func
def _true_weights(by: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.vec3:
    """Weights in space from weights on the screen; the third coordinate of each corner is one over its depth."""
    scaled = wp.cw_mul(by, wp.vec3(a[2], b[2], c[2]))
    return scaled / (scaled[0] + scaled[1] + scaled[2])


@wp.func
def _noise(x: wp.int32, y: wp.int32) -> wp.float32:
    """Interleaved gradient noise (Jimenez 2014), in [0, 1)."""
    inner = 0.06711056 * float(x) + 0.00583715 * float(y)
    outer = 52.9829189 * (inner - wp.floor(inner))
    return outer - wp.floor(outer)


@wp.func
def _texel(texels: wp.array3d[wp.uint8], at: wp.vec2, channel: wp.int32) -> wp.float32:
    """Bilinear; `at` in [0, 1]."""
    x = at[0] * float(texels.shape[1]) - 0.5
    y = at[1] * float(texels.shape[0]) - 0.5
    i = int(wp.floor(x))
    j = int(wp.floor(y))
    u = x - float(i)
    v = y - float(j)
    left = wp.clamp(i, 0, texels.shape[1] - 1)
    right = wp.clamp(i + 1, 0, texels.shape[1] - 1)
    top = wp.clamp(j, 0, texels.shape[0] - 1)
    bottom = wp.clamp(j + 1, 0, texels.shape[0] - 1)
    upper = wp.lerp(float(texels[top, left, channel]), float(texels[top, right, channel]), u)
    lower = wp.lerp(float(texels[bottom, left, channel]), float(texels[bottom, right, channel]), u)
    return wp.lerp(upper, lower, v) / 255.0


@wp.kernel
def rasterize_faces(
    corners: wp.array2d[wp.int32],
    screen: wp.array[wp.vec3],
    uv: wp.array[wp.vec2],
    texels: wp.array3d[wp.uint8],
    cull: wp.int32,
    alpha_mode: wp.int32,
    nearness: wp.array2d[wp.float32],
    faces: wp.array2d[wp.int32],
) -> None:
    """One thread a face; on the CPU faces come in turn, so that the nearer one may be asked for without a lock."""
    face = wp.tid()
    i = corners[face, 0]
    j = corners[face, 1]
    k = corners[face, 2]
    a = screen[i]
    b = screen[j]
    c = screen[k]
    if cull == 1 and (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0.0:
        return
    for y in range(
        wp.max(first_centre(a[1], b[1], c[1]), 0), wp.min(last_centre(a[1], b[1], c[1]) + 1, faces.shape[0])
    ):
        for x in range(
            wp.max(first_centre(a[0], b[0], c[0]), 0), wp.min(last_centre(a[0], b[0], c[0]) + 1, faces.shape[1])
        ):
            by = barycentric_weights(_flat(a), _flat(b), _flat(c), wp.vec2(float(x) + 0.5, float(y) + 0.5))
            near = by[0] * a[2] + by[1] * b[2] + by[2] * c[2]
            if by[0] >= 0.0 and near > nearness[y, x]:
                kept = int(1)
                if alpha_mode > 0:
                    true = _true_weights(by, a, b, c)
                    alpha = _texel(texels, uv[i] * true[0] + uv[j] * true[1] + uv[k] * true[2], 5)
                    needed = wp.where(alpha_mode == 1, 0.5, _noise(x, y))
                    if alpha < needed:
                        kept = 0
                if kept == 1:
                    nearness[y, x] = near
                    faces[y, x] = face


@wp.struct
class Spot:
    """A place on the mesh: where, which way it faces (toward the eye), and its texture coordinates' weights."""

    place: wp.vec3
    normal: wp.vec3
    by: wp.vec3


@wp.func
def _spot(
    positions: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    screen: wp.array[wp.vec3],
    eye: wp.vec3,
    face: wp.int32,
    x: wp.int32,
    y: wp.int32,
) -> Spot:
    i = corners[face, 0]
    j = corners[face, 1]
    k = corners[face, 2]
    by = barycentric_weights(
        _flat(screen[i]), _flat(screen[j]), _flat(screen[k]), wp.vec2(float(x) + 0.5, float(y) + 0.5)
    )
    spot = Spot()
    spot.by = _true_weights(by, screen[i], screen[j], screen[k])
    spot.place = positions[i] * spot.by[0] + positions[j] * spot.by[1] + positions[k] * spot.by[2]
    spot.normal = wp.normalize(normals[i] * spot.by[0] + normals[j] * spot.by[1] + normals[k] * spot.by[2])
    if wp.dot(spot.normal, eye - spot.place) < 0.0:
        flat = wp.normalize(wp.cross(positions[j] - positions[i], positions[k] - positions[i]))
        if wp.dot(flat, eye - spot.place) < 0.0:
            spot.normal = -spot.normal
    return spot


@wp.func
def _around(normal: wp.vec3, ray: wp.int32, rays: wp.int32, turn: wp.float32) -> wp.vec3:
    """The ray's direction in a cosine-weighted spiral around the normal."""
    up = (float(ray) + 0.5) / float(rays)
    angle = (float(ray) * 0.61803398875 + turn) * 2.0 * wp.pi
    side = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(normal[0]) > 0.7:
        side = wp.vec3(0.0, 1.0, 0.0)
    one = wp.normalize(wp.cross(side, normal))
    other = wp.cross(normal, one)
    wide = wp.sqrt(up)
    return one * (wide * wp.cos(angle)) + other * (wide * wp.sin(angle)) + normal * wp.sqrt(1.0 - up)


@wp.func
def _lit(surface: wp.uint64, start: wp.vec3, turn: wp.float32, reach: wp.float32) -> wp.float32:
    """The part of the key light, a soft box, that reaches a place."""
    seen = float(0.0)
    for ray in range(6):
        direction = wp.normalize(_around(KEY, ray, 6, turn) * 0.28 + KEY)
        if not wp.mesh_query_ray(surface, start, direction, reach * 2.0).result:
            seen += 1.0 / 6.0
    return seen


@wp.kernel
def sample_ambient_occlusion(
    positions: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    screen: wp.array[wp.vec3],
    eye: wp.vec3,
    faces: wp.array2d[wp.int32],
    surface: wp.uint64,
    reach: wp.float32,
    light: wp.array3d[wp.float32],
) -> None:
    """How much of the sky and of the key light the place under each coarse sample sees."""
    j, i = wp.tid()
    step = faces.shape[0] / light.shape[0]
    y = j * step + step / 2
    x = i * step + step / 2
    face = faces[y, x]
    light[j, i, 0] = -1.0
    if face < 0:
        return
    spot = _spot(positions, normals, corners, screen, eye, face, x, y)
    start = spot.place + spot.normal * (reach * 0.002) + (eye - spot.place) * 0.0005
    turn = _noise(i, j)
    seen = float(0.0)
    for ray in range(RAYS):
        direction = _around(spot.normal, ray, RAYS, turn)
        query = wp.mesh_query_ray(surface, start, direction, reach * 0.5)
        if not query.result:
            seen += 1.0
        else:
            seen += 0.6 * query.t / (reach * 0.5)
    light[j, i, 0] = seen / float(RAYS)
    light[j, i, 1] = _lit(surface, start, turn, reach)


@wp.kernel
def sample_floor_light(
    surface: wp.uint64, side_m: wp.float32, reach: wp.float32, floor: wp.array2d[wp.float32]
) -> None:
    """How much light each cell of the floor around the origin gets."""
    j, i = wp.tid()
    x = ((float(i) + 0.5) / float(floor.shape[1]) - 0.5) * side_m
    z = ((float(j) + 0.5) / float(floor.shape[0]) - 0.5) * side_m
    start = wp.vec3(x, -0.002 * reach, z)
    seen = float(0.0)
    for ray in range(FLOOR_RAYS):
        direction = _around(wp.vec3(0.0, 1.0, 0.0), ray, FLOOR_RAYS, _noise(i, j))
        if not wp.mesh_query_ray(surface, start, direction, reach * 2.0).result:
            seen += 1.0
    floor[j, i] = 0.6 * seen / float(FLOOR_RAYS) + 0.4 * _lit(surface, start, _noise(j, i), reach)


@wp.func
def _spread(
    positions: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    faces: wp.array2d[wp.int32],
    light: wp.array3d[wp.float32],
    spot: Spot,
    reach: wp.float32,
    x: wp.int32,
    y: wp.int32,
) -> wp.vec2:
    """Openness here, from the coarse places around: near ones count, and among them those on the same plane."""
    step = faces.shape[0] / light.shape[0]
    i = x / step
    j = y / step
    total = wp.vec2(0.0, 0.0)
    sum = float(1.0e-6)
    for dj in range(-2, 3):
        for di in range(-2, 3):
            row = j + dj
            column = i + di
            if row >= 0 and column >= 0 and row < light.shape[0] and column < light.shape[1]:
                if light[row, column, 0] >= 0.0:
                    sx = float(column * step + step / 2 - x) / float(step)
                    sy = float(row * step + step / 2 - y) / float(step)
                    face = faces[row * step + step / 2, column * step + step / 2]
                    there = positions[corners[face, 0]]
                    off = wp.abs(wp.dot(there - spot.place, spot.normal)) / (reach * 0.02)
                    weight = wp.exp(-0.45 * (sx * sx + sy * sy) - off * off) + 1.0e-5
                    total += wp.vec2(light[row, column, 0], light[row, column, 1]) * weight
                    sum += weight
    if sum < 1.0e-5:
        return wp.vec2(0.8, 0.8)
    return total / sum


@wp.func
def _ground(floor: wp.array2d[wp.float32], side_m: wp.float32, eye: wp.vec3, direction: wp.vec3) -> wp.float32:
    """Light on the floor where a ray from the eye meets it, 1 where it does not."""
    if direction[1] > -1.0e-3:
        return 1.0
    hit = eye - direction * (eye[1] / direction[1])
    x = (hit[0] / side_m + 0.5) * float(floor.shape[1]) - 0.5
    z = (hit[2] / side_m + 0.5) * float(floor.shape[0]) - 0.5
    x = wp.clamp(x, 0.0, float(floor.shape[1]) - 1.001)
    z = wp.clamp(z, 0.0, float(floor.shape[0]) - 1.001)
    i = int(x)
    j = int(z)
    near = wp.lerp(floor[j, i], floor[j, i + 1], x - float(i))
    far = wp.lerp(floor[j + 1, i], floor[j + 1, i + 1], x - float(i))
    away = wp.length(wp.vec2(hit[0], hit[2])) / (0.5 * side_m)
    return wp.lerp(wp.lerp(near, far, z - float(j)), 1.0, wp.smoothstep(0.5, 1.0, away))


@wp.kernel
def shade_pixels(
    positions: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    corners: wp.array2d[wp.int32],
    screen: wp.array[wp.vec3],
    eye: wp.vec3,
    faces: wp.array2d[wp.int32],
    light: wp.array3d[wp.float32],
    floor: wp.array2d[wp.float32],
    floor_m: wp.float32,
    right: wp.vec3,
    up: wp.vec3,
    back: wp.vec3,
    uv: wp.array[wp.vec2],
    texels: wp.array3d[wp.uint8],
    pixels: wp.array3d[wp.uint8],
) -> None:
    row, column = wp.tid()
    samples = faces.shape[0] / pixels.shape[0]
    reach = floor_m * 0.4
    total = wp.vec3(0.0, 0.0, 0.0)
    last = Spot()
    seen = wp.vec2(0.0, 0.0)
    for sample in range(samples * samples):
        y = row * samples + sample / samples
        x = column * samples + sample % samples
        face = faces[y, x]
        if face >= 0:
            spot = _spot(positions, normals, corners, screen, eye, face, x, y)
            at = (
                uv[corners[face, 0]] * spot.by[0]
                + uv[corners[face, 1]] * spot.by[1]
                + uv[corners[face, 2]] * spot.by[2]
            )
            colour = wp.vec3(
                srgb_to_linear(_texel(texels, at, 0)),
                srgb_to_linear(_texel(texels, at, 1)),
                srgb_to_linear(_texel(texels, at, 2)),
            )
            if (
                wp.dot(spot.normal, last.normal) < 0.98
                or wp.abs(wp.dot(spot.place - last.place, spot.normal)) > LEVEL * reach
            ):
                seen = _spread(positions, corners, faces, light, spot, reach, x, y)
                last = spot
            view = wp.normalize(eye - spot.place)
            total += shade(colour, _texel(texels, at, 3), _texel(texels, at, 4), spot.normal, view, seen[0], seen[1])
        else:
            half = float(faces.shape[0]) * 0.5
            across = (float(x) + 0.5 - half) / half * HALF_VIEW
            down = (float(y) + 0.5 - half) / half * HALF_VIEW
            direction = right * across - up * down - back
            total += backdrop_colour(float(y) / float(faces.shape[0])) * _ground(floor, floor_m, eye, direction)
    total = total / float(samples * samples)
    for channel in range(3):
        value = linear_to_srgb(wp.clamp(total[channel], 0.0, 1.0))
        pixels[row, column, channel] = wp.uint8(value * 255.0 + 0.5)
