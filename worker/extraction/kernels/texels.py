"""Which texels a triangle covers, and the light that their codes stand for.

Coverage is decided exactly, as by the fill rules of Direct3D and OpenGL: a texel's centre on an edge that two triangles
share belongs to one of them only. The sign of an edge function (Pineda, A Parallel Algorithm for Polygon Rasterization,
1988) is computed from the edge's lower end by both triangles, so rounding cannot give it to both or to none.

Codes follow IEC 61966-2-1 (sRGB).
"""

import numpy as np
import warp as wp

COLOURS = 3  # the first channels of a material are sRGB; the others are linear

_CODES, _LIGHTS = np.arange(256) / 255, np.arange(65_536) / 65_535
# Linear light, 0-1, of each of the 256 codes, and the derivative of the code (0-1) by light there; float64 [256].
LIGHT = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
SLOPE = np.where(_CODES <= 0.04045, 12.92, 1.055 / 2.4 * ((_CODES + 0.055) / 1.055) ** -1.4)
# 16-bit light of each code, uint32 [256], and the code of each 16-bit light, uint8 [65,536].
TO_LIGHT = np.round(LIGHT * 65_535).astype(np.uint32)
_ENCODED = np.where(_LIGHTS <= 0.0031308, _LIGHTS * 12.92, 1.055 * _LIGHTS ** (1 / 2.4) - 0.055)
FROM_LIGHT = np.round(_ENCODED * 255).astype(np.uint8)


@wp.func
def srgb_to_linear(encoded: wp.float32) -> wp.float32:
    """Decode an sRGB value to linear light; both 0-1."""
    return wp.where(encoded <= 0.04045, encoded / 12.92, wp.pow((encoded + 0.055) / 1.055, 2.4))


@wp.func
def linear_to_srgb(linear: wp.float32) -> wp.float32:
    """Encode linear light as an sRGB value; both 0-1."""
    return wp.where(linear <= 0.0031308, linear * 12.92, 1.055 * wp.pow(linear, 1.0 / 2.4) - 0.055)


@wp.func
def _edge(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> wp.float32:
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


@wp.func
def _edge_sign(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> wp.float32:
    """Return the edge function, positive left of a -> b, never zero; of b -> a it is exactly the negative."""
    # Order the ends, so that both triangles at an edge compute with the same numbers.
    forward = a[1] < b[1] or (a[1] == b[1] and a[0] < b[0])
    value = float(0.0)
    # On the edge itself, decide for the side that is left of the ordered edge.
    if forward:
        value = _edge(a, b, p)
        if value == 0.0:
            value = 1.0e-30
    else:
        value = -_edge(b, a, p)
        if value == 0.0:
            value = -1.0e-30
    return value


@wp.func
def barycentric_weights(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2) -> wp.vec3:
    """Return the weights of p, positive, with sum 1; all -1 if the triangle, of either winding, does not cover p."""
    u = _edge_sign(b, c, p)
    v = _edge_sign(c, a, p)
    w = _edge_sign(a, b, p)
    if (u > 0.0 and v > 0.0 and w > 0.0) or (u < 0.0 and v < 0.0 and w < 0.0):
        return wp.vec3(u, v, w) / (u + v + w)
    return wp.vec3(-1.0, -1.0, -1.0)


@wp.func
def covers_texel(a: wp.vec2, b: wp.vec2, c: wp.vec2, x: wp.int32, y: wp.int32) -> wp.bool:
    """Return whether the triangle, in texels, covers the centre of texel (x, y)."""
    return barycentric_weights(a, b, c, wp.vec2(float(x) + 0.5, float(y) + 0.5))[0] >= 0.0


@wp.func
def closest_weights(a: wp.vec2, b: wp.vec2, c: wp.vec2, p: wp.vec2) -> wp.vec3:
    """Return the barycentric weights of the triangle's point closest to p, which is outside of it."""
    best = wp.vec3(1.0, 0.0, 0.0)
    best_distance = float(1.0e30)
    for side in range(3):
        # Project p onto the side, from its start to its end, and clamp to the side.
        start = wp.where(side == 0, a, wp.where(side == 1, b, c))
        end = wp.where(side == 0, b, wp.where(side == 1, c, a))
        along = end - start
        t = wp.clamp(wp.dot(p - start, along) / wp.max(wp.dot(along, along), 1.0e-20), 0.0, 1.0)
        # Keep the closest of the three.
        distance = wp.length_sq(start + along * t - p)
        if distance < best_distance:
            best_distance = distance
            best = wp.vec3(0.0, 0.0, 0.0)
            best[side] = 1.0 - t
            best[(side + 1) % 3] = t
    return best


@wp.func
def first_centre(a: wp.float32, b: wp.float32, c: wp.float32) -> wp.int32:
    """Return the first texel whose centre is not below all three coordinates, in texels."""
    return int(wp.ceil(wp.min(a, wp.min(b, c)) - 0.5))


@wp.func
def last_centre(a: wp.float32, b: wp.float32, c: wp.float32) -> wp.int32:
    """Return the last texel whose centre is not above all three coordinates, in texels."""
    return int(wp.floor(wp.max(a, wp.max(b, c)) - 0.5))
