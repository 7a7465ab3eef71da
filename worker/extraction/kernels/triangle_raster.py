"""Which texels a triangle covers, decided exactly: a texel's centre on a shared edge belongs to one side only."""

import warp as wp


@wp.func
def _edge(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> wp.float32:
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


@wp.func
def _left_of(a: wp.vec2, b: wp.vec2, p: wp.vec2) -> wp.float32:
    """Positive where p lies left of a -> b, never zero; the two triangles at an edge get exactly opposite answers."""
    forward = a[1] < b[1] or (a[1] == b[1] and a[0] < b[0])
    value = float(0.0)
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
    """Barycentric weights of p, adding up to 1; all of them positive where the triangle covers p (either winding)."""
    u = _left_of(b, c, p)
    v = _left_of(c, a, p)
    w = _left_of(a, b, p)
    if (u > 0.0 and v > 0.0 and w > 0.0) or (u < 0.0 and v < 0.0 and w < 0.0):
        return wp.vec3(u, v, w) / (u + v + w)
    return wp.vec3(-1.0, -1.0, -1.0)


@wp.func
def first_centre(a: wp.float32, b: wp.float32, c: wp.float32) -> wp.int32:
    """The first texel whose centre is not before the three coordinates, in texels."""
    return int(wp.ceil(wp.min(a, wp.min(b, c)) - 0.5))


@wp.func
def last_centre(a: wp.float32, b: wp.float32, c: wp.float32) -> wp.int32:
    """The last texel whose centre is not past the three coordinates, in texels."""
    return int(wp.floor(wp.max(a, wp.max(b, c)) - 0.5))
