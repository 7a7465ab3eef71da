"""The poster's light: a small studio of one key light, a soft sky and a bright floor, as Warp functions."""

import warp as wp

KEY = wp.constant(wp.vec3(-0.420542, 0.747631, 0.513996))  # toward the light, of length one
KEY_COLOUR = wp.constant(wp.vec3(2.5, 2.42, 2.3))
RIM = wp.constant(wp.vec3(0.682318, 0.438633, -0.584844))
RIM_COLOUR = wp.constant(wp.vec3(0.9, 1.0, 1.15))
SKY = wp.constant(wp.vec3(0.85, 0.88, 0.93))
GROUND = wp.constant(wp.vec3(0.5, 0.48, 0.46))


@wp.func
def backdrop_colour(y: wp.float32) -> wp.vec3:
    """The wall behind the object in linear light; y runs from 0 at the top to 1 at the bottom."""
    return wp.lerp(wp.vec3(0.93, 0.94, 0.95), wp.vec3(0.70, 0.71, 0.73), wp.smoothstep(0.0, 1.0, y))


@wp.func
def _surroundings(direction: wp.vec3, roughness: wp.float32) -> wp.vec3:
    """What a reflection sees: sky, ground and two soft boxes, blurrier the rougher the surface."""
    blur = 0.12 + 0.88 * roughness
    light = wp.lerp(GROUND, SKY, wp.smoothstep(-blur, blur, direction[1])) * 0.75
    box = wp.smoothstep(0.86 - 0.5 * blur, 0.86 + 0.12 * blur, wp.dot(direction, KEY))
    strip = wp.smoothstep(0.9 - 0.5 * blur, 0.9 + 0.1 * blur, wp.dot(direction, RIM))
    return light + (1.6 * box + 0.8 * strip) * (1.0 - 0.75 * roughness) * wp.vec3(1.0, 1.0, 1.0)


@wp.func
def _lobe(normal: wp.vec3, view: wp.vec3, light: wp.vec3, roughness: wp.float32) -> wp.float32:
    """GGX distribution with the visibility term folded in (Karis 2013), for one light."""
    half = wp.normalize(view + light)
    alpha = wp.max(roughness * roughness, 0.02)
    nh = wp.max(wp.dot(normal, half), 0.0)
    lh = wp.max(wp.dot(light, half), 0.1)
    tail = nh * nh * (alpha * alpha - 1.0) + 1.0
    return alpha * alpha / (4.0 * tail * tail * lh * lh * (roughness + 0.5)) / wp.pi


@wp.func
def shade(
    colour: wp.vec3,
    metallic: wp.float32,
    roughness: wp.float32,
    normal: wp.vec3,
    view: wp.vec3,
    open: wp.float32,
    lit: wp.float32,
) -> wp.vec3:
    """Light that leaves a surface toward `view`.

    colour: linear. open: the part of the sky that the place sees. lit: the part of the key light.
    """
    base = wp.lerp(wp.vec3(0.04, 0.04, 0.04), colour, metallic)
    matte = colour * (1.0 - metallic)
    key = wp.max(wp.dot(normal, KEY), 0.0) * lit
    rim = wp.max(wp.dot(normal, RIM), 0.0) * open
    sky = wp.lerp(GROUND, SKY, 0.5 + 0.5 * normal[1]) * (0.62 * open)
    direct = KEY_COLOUR * (key * 0.36) + RIM_COLOUR * (rim * 0.25)
    result = wp.cw_mul(matte, sky + direct)
    facing = wp.max(wp.dot(normal, view), 0.0)
    fresnel = base + (wp.vec3(1.0, 1.0, 1.0) - base) * wp.pow(1.0 - facing, 5.0) * (1.0 - 0.7 * roughness)
    mirrored = normal * (2.0 * wp.dot(normal, view)) - view
    result += wp.cw_mul(fresnel, _surroundings(mirrored, roughness)) * (0.35 + 0.65 * open)
    result += wp.cw_mul(base, KEY_COLOUR) * (_lobe(normal, view, KEY, roughness) * key)
    return result
