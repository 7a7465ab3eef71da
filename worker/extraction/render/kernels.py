"""The poster's kernels: rasterization with a depth buffer, ambient occlusion by ray casting, shading.

Samples are the points in which the poster is rasterized, several to a pixel. Screen coordinates are in samples, with
1 / depth as third coordinate.
"""

import warp as wp

from worker.extraction.kernels.texels import (
    barycentric_weights,
    first_centre,
    last_centre,
    linear_to_srgb,
    srgb_to_linear,
)
from worker.extraction.render.scene import HALF_VIEW, KEY, backdrop_colour, shade

OCCLUSION_RAYS = 24
FLOOR_RAYS = 48
SAME_PLANE = wp.constant(0.002)  # of size_m: a pixel's samples within this of one plane share their visibility


@wp.struct
class Scene:
    """The asset on the device, and the camera; metres.

    corners: the vertices of each face. screen: the vertices in screen coordinates. uv: v down. surface: the mesh for
    rays. cull: 1 for a closed mesh, whose back faces are invisible, else 0. alpha_mode: 0 OPAQUE, 1 MASK, 2 BLEND.
    size_m: the largest side of the bounding box. floor_m: the side of the floor.
    """

    positions: wp.array[wp.vec3]
    normals: wp.array[wp.vec3]
    corners: wp.array2d[wp.int32]
    screen: wp.array[wp.vec3]
    uv: wp.array[wp.vec2]
    texels: wp.array3d[wp.uint8]
    surface: wp.uint64
    cull: wp.int32
    alpha_mode: wp.int32
    size_m: wp.float32
    floor_m: wp.float32
    eye: wp.vec3
    right: wp.vec3
    up: wp.vec3
    back: wp.vec3


@wp.func
def _screen_xy(point: wp.vec3) -> wp.vec2:
    return wp.vec2(point[0], point[1])


@wp.func
def _perspective_weights(bary: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.vec3:
    """Correct barycentric weights on the screen for perspective; the corners' third coordinate is 1 / depth."""
    scaled = wp.cw_mul(bary, wp.vec3(a[2], b[2], c[2]))
    return scaled / (scaled[0] + scaled[1] + scaled[2])


@wp.func
def _noise(x: wp.int32, y: wp.int32) -> wp.float32:
    """Return interleaved gradient noise (Jimenez 2014), in [0, 1)."""
    inner = 0.06711056 * float(x) + 0.00583715 * float(y)
    outer = 52.9829189 * (inner - wp.floor(inner))
    return outer - wp.floor(outer)


@wp.func
def _texel(texels: wp.array3d[wp.uint8], at: wp.vec2, channel: wp.int32) -> wp.float32:
    """Sample one channel bilinearly, 0-1; `at`: texture coordinates, 0-1, v down."""
    # 1. The texel to the upper left, and the fractions from its centre.
    x = at[0] * float(texels.shape[1]) - 0.5
    y = at[1] * float(texels.shape[0]) - 0.5
    i = int(wp.floor(x))
    j = int(wp.floor(y))
    u = x - float(i)
    v = y - float(j)
    # 2. Clamp to the texture's edges.
    left = wp.clamp(i, 0, texels.shape[1] - 1)
    right = wp.clamp(i + 1, 0, texels.shape[1] - 1)
    top = wp.clamp(j, 0, texels.shape[0] - 1)
    bottom = wp.clamp(j + 1, 0, texels.shape[0] - 1)
    # 3. Interpolate along the rows, then between them.
    upper = wp.lerp(float(texels[top, left, channel]), float(texels[top, right, channel]), u)
    lower = wp.lerp(float(texels[bottom, left, channel]), float(texels[bottom, right, channel]), u)
    return wp.lerp(upper, lower, v) / 255.0


@wp.func
def _texture_coordinates(scene: Scene, face: wp.int32, weights: wp.vec3) -> wp.vec2:
    return (
        scene.uv[scene.corners[face, 0]] * weights[0]
        + scene.uv[scene.corners[face, 1]] * weights[1]
        + scene.uv[scene.corners[face, 2]] * weights[2]
    )


@wp.kernel
def rasterize_faces(scene: Scene, inverse_depth: wp.array2d[wp.float32], faces: wp.array2d[wp.int32]) -> None:
    """Rasterize one face into the samples that it covers. On the CPU threads run in order: no lock is needed."""
    face = wp.tid()
    i = scene.corners[face, 0]
    j = scene.corners[face, 1]
    k = scene.corners[face, 2]
    a = scene.screen[i]
    b = scene.screen[j]
    c = scene.screen[k]
    # 1. Cull back faces of closed meshes.
    if scene.cull == 1 and (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0.0:
        return
    # 2. All samples in the face's bounding rectangle.
    for y in range(
        wp.max(first_centre(a[1], b[1], c[1]), 0), wp.min(last_centre(a[1], b[1], c[1]) + 1, faces.shape[0])
    ):
        for x in range(
            wp.max(first_centre(a[0], b[0], c[0]), 0), wp.min(last_centre(a[0], b[0], c[0]) + 1, faces.shape[1])
        ):
            bary = barycentric_weights(
                _screen_xy(a), _screen_xy(b), _screen_xy(c), wp.vec2(float(x) + 0.5, float(y) + 0.5)
            )
            # 3. Depth test: 1 / depth is linear on the screen.
            near = bary[0] * a[2] + bary[1] * b[2] + bary[2] * c[2]
            if bary[0] >= 0.0 and near > inverse_depth[y, x]:
                # 4. Alpha test: at 0.5 for MASK, against noise (stochastic transparency) for BLEND.
                kept = int(1)
                if scene.alpha_mode > 0:
                    weights = _perspective_weights(bary, a, b, c)
                    alpha = _texel(scene.texels, _texture_coordinates(scene, face, weights), 5)
                    threshold = wp.where(scene.alpha_mode == 1, 0.5, _noise(x, y))
                    if alpha < threshold:
                        kept = 0
                if kept == 1:
                    inverse_depth[y, x] = near
                    faces[y, x] = face


@wp.struct
class SurfacePoint:
    """A point on the mesh: position, normal (towards the eye), and barycentric weights in its face."""

    position: wp.vec3
    normal: wp.vec3
    bary: wp.vec3


@wp.func
def _surface_point(scene: Scene, face: wp.int32, x: wp.int32, y: wp.int32) -> SurfacePoint:
    # 1. The vertices, and the sample's weights between them.
    i = scene.corners[face, 0]
    j = scene.corners[face, 1]
    k = scene.corners[face, 2]
    a = scene.screen[i]
    b = scene.screen[j]
    c = scene.screen[k]
    centre = wp.vec2(float(x) + 0.5, float(y) + 0.5)
    bary = _perspective_weights(barycentric_weights(_screen_xy(a), _screen_xy(b), _screen_xy(c), centre), a, b, c)
    # 2. Interpolate position and normal.
    p = scene.positions[i]
    q = scene.positions[j]
    r = scene.positions[k]
    point = SurfacePoint()
    point.bary = bary
    point.position = p * bary[0] + q * bary[1] + r * bary[2]
    point.normal = wp.normalize(scene.normals[i] * bary[0] + scene.normals[j] * bary[1] + scene.normals[k] * bary[2])
    # 3. Flip the normal of a back face: both sides of an open mesh are visible.
    if wp.dot(point.normal, scene.eye - point.position) < 0.0:
        face_normal = wp.normalize(wp.cross(q - p, r - p))
        if wp.dot(face_normal, scene.eye - point.position) < 0.0:
            point.normal = -point.normal
    return point


@wp.func
def _hemisphere_ray(normal: wp.vec3, ray: wp.int32, rays: wp.int32, turn: wp.float32) -> wp.vec3:
    """Return direction number `ray` of a cosine-weighted, golden-ratio spiral of `rays` around the normal."""
    up = (float(ray) + 0.5) / float(rays)
    angle = (float(ray) * 0.61803398875 + turn) * 2.0 * wp.pi
    # Two vectors perpendicular to the normal.
    side = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(normal[0]) > 0.7:
        side = wp.vec3(0.0, 1.0, 0.0)
    tangent = wp.normalize(wp.cross(side, normal))
    bitangent = wp.cross(normal, tangent)
    radius = wp.sqrt(up)
    return tangent * (radius * wp.cos(angle)) + bitangent * (radius * wp.sin(angle)) + normal * wp.sqrt(1.0 - up)


@wp.func
def _key_visibility(scene: Scene, start: wp.vec3, turn: wp.float32) -> wp.float32:
    """Return the part of the key light, an area light of six rays, that reaches a point."""
    visible = float(0.0)
    for ray in range(6):
        direction = wp.normalize(_hemisphere_ray(KEY, ray, 6, turn) * 0.28 + KEY)
        if not wp.mesh_query_ray(scene.surface, start, direction, scene.size_m * 2.0).result:
            visible += 1.0 / 6.0
    return visible


@wp.kernel
def sample_ambient_occlusion(scene: Scene, faces: wp.array2d[wp.int32], light: wp.array3d[wp.float32]) -> None:
    """Compute the visibility of sky and key light at one point of the coarse grid; -1 where it shows no face."""
    # 1. The sample in the middle of the coarse cell, and the point that it shows.
    j, i = wp.tid()
    step = faces.shape[0] / light.shape[0]
    y = j * step + step / 2
    x = i * step + step / 2
    face = faces[y, x]
    light[j, i, 0] = -1.0
    if face < 0:
        return
    point = _surface_point(scene, face, x, y)
    # 2. Start a little off the surface, so that no ray hits its own face.
    start = point.position + point.normal * (scene.size_m * 0.002) + (scene.eye - point.position) * 0.0005
    # 3. Ambient occlusion within half the object's size; a distant hit counts partly as open.
    turn = _noise(i, j)
    visible = float(0.0)
    for ray in range(OCCLUSION_RAYS):
        direction = _hemisphere_ray(point.normal, ray, OCCLUSION_RAYS, turn)
        query = wp.mesh_query_ray(scene.surface, start, direction, scene.size_m * 0.5)
        if not query.result:
            visible += 1.0
        else:
            visible += 0.6 * query.t / (scene.size_m * 0.5)
    light[j, i, 0] = visible / float(OCCLUSION_RAYS)
    # 4. The key light.
    light[j, i, 1] = _key_visibility(scene, start, turn)


@wp.kernel
def sample_floor_light(scene: Scene, floor: wp.array2d[wp.float32]) -> None:
    """Compute the light on one cell of the floor around the origin, 0-1: 60 % sky, 40 % key light."""
    j, i = wp.tid()
    x = ((float(i) + 0.5) / float(floor.shape[1]) - 0.5) * scene.floor_m
    z = ((float(j) + 0.5) / float(floor.shape[0]) - 0.5) * scene.floor_m
    # Start just below the floor, on which the object stands.
    start = wp.vec3(x, -0.002 * scene.size_m, z)
    visible = float(0.0)
    for ray in range(FLOOR_RAYS):
        direction = _hemisphere_ray(wp.vec3(0.0, 1.0, 0.0), ray, FLOOR_RAYS, _noise(i, j))
        if not wp.mesh_query_ray(scene.surface, start, direction, scene.size_m * 2.0).result:
            visible += 1.0
    floor[j, i] = 0.6 * visible / float(FLOOR_RAYS) + 0.4 * _key_visibility(scene, start, _noise(j, i))


@wp.func
def _interpolate_visibility(
    scene: Scene,
    faces: wp.array2d[wp.int32],
    light: wp.array3d[wp.float32],
    point: SurfacePoint,
    size_m: wp.float32,
    x: wp.int32,
    y: wp.int32,
) -> wp.vec2:
    """Interpolate the coarse grid with a joint bilateral filter: by distance on screen, and from the point's plane."""
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
                    # Distances in coarse cells, and of the cell's point from this one's plane.
                    sx = float(column * step + step / 2 - x) / float(step)
                    sy = float(row * step + step / 2 - y) / float(step)
                    face = faces[row * step + step / 2, column * step + step / 2]
                    neighbour = scene.positions[scene.corners[face, 0]]
                    off = wp.abs(wp.dot(neighbour - point.position, point.normal)) / (size_m * 0.02)
                    weight = wp.exp(-0.45 * (sx * sx + sy * sy) - off * off) + 1.0e-5
                    total += wp.vec2(light[row, column, 0], light[row, column, 1]) * weight
                    sum += weight
    # No neighbour: the grid missed a small part of the object.
    if sum < 1.0e-5:
        return wp.vec2(0.8, 0.8)
    return total / sum


@wp.func
def _floor_light(scene: Scene, floor: wp.array2d[wp.float32], direction: wp.vec3) -> wp.float32:
    """Return the light on the floor where a ray from the eye hits it; 1 where it does not."""
    if direction[1] > -1.0e-3:
        return 1.0
    # 1. Intersect with the plane y = 0.
    hit = scene.eye - direction * (scene.eye[1] / direction[1])
    x = (hit[0] / scene.floor_m + 0.5) * float(floor.shape[1]) - 0.5
    z = (hit[2] / scene.floor_m + 0.5) * float(floor.shape[0]) - 0.5
    # 2. Sample the floor's cells bilinearly.
    x = wp.clamp(x, 0.0, float(floor.shape[1]) - 1.001)
    z = wp.clamp(z, 0.0, float(floor.shape[0]) - 1.001)
    i = int(x)
    j = int(z)
    near = wp.lerp(floor[j, i], floor[j, i + 1], x - float(i))
    far = wp.lerp(floor[j + 1, i], floor[j + 1, i + 1], x - float(i))
    # 3. Fade to full light towards the border of the cells.
    away = wp.length(wp.vec2(hit[0], hit[2])) / (0.5 * scene.floor_m)
    return wp.lerp(wp.lerp(near, far, z - float(j)), 1.0, wp.smoothstep(0.5, 1.0, away))


@wp.kernel
def shade_pixels(
    scene: Scene,
    faces: wp.array2d[wp.int32],
    light: wp.array3d[wp.float32],
    floor: wp.array2d[wp.float32],
    pixels: wp.array3d[wp.uint8],
) -> None:
    """Shade one pixel: the mean of its samples in linear light."""
    row, column = wp.tid()
    samples = faces.shape[0] / pixels.shape[0]
    size_m = scene.floor_m * 0.4
    total = wp.vec3(0.0, 0.0, 0.0)
    last = SurfacePoint()
    visibility = wp.vec2(0.0, 0.0)
    for sample in range(samples * samples):
        y = row * samples + sample / samples
        x = column * samples + sample % samples
        face = faces[y, x]
        if face >= 0:
            # 1. A sample of the mesh: its material from the textures.
            point = _surface_point(scene, face, x, y)
            at = _texture_coordinates(scene, face, point.bary)
            colour = wp.vec3(
                srgb_to_linear(_texel(scene.texels, at, 0)),
                srgb_to_linear(_texel(scene.texels, at, 1)),
                srgb_to_linear(_texel(scene.texels, at, 2)),
            )
            # 2. Visibility, once for samples on one plane.
            if (
                wp.dot(point.normal, last.normal) < 0.98
                or wp.abs(wp.dot(point.position - last.position, point.normal)) > SAME_PLANE * size_m
            ):
                visibility = _interpolate_visibility(scene, faces, light, point, size_m, x, y)
                last = point
            view = wp.normalize(scene.eye - point.position)
            total += shade(
                colour,
                _texel(scene.texels, at, 3),
                _texel(scene.texels, at, 4),
                point.normal,
                view,
                visibility[0],
                visibility[1],
            )
        else:
            # 3. A sample of the background: the wall, darkened by the floor's shadow.
            half = float(faces.shape[0]) * 0.5
            across = (float(x) + 0.5 - half) / half * HALF_VIEW
            down = (float(y) + 0.5 - half) / half * HALF_VIEW
            direction = scene.right * across - scene.up * down - scene.back
            total += backdrop_colour(float(y) / float(faces.shape[0])) * _floor_light(scene, floor, direction)
    # 4. Average and encode.
    total = total / float(samples * samples)
    for channel in range(3):
        value = linear_to_srgb(wp.clamp(total[channel], 0.0, 1.0))
        pixels[row, column, channel] = wp.uint8(value * 255.0 + 0.5)
