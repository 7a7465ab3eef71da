"""The poster's scene: a camera with a three-quarter view, a key light, a soft sky and a bright floor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

YAW_RAD = np.radians(32)  # from the front, towards the object's left
PITCH_RAD = np.radians(18)  # above the horizon
HALF_VIEW = float(np.tan(np.radians(14)))  # half the image's side at distance 1: a portrait lens
MARGIN = 0.78  # part of the image's side that the object fills

KEY = wp.constant(wp.vec3(-0.420542, 0.747631, 0.513996))  # unit vector towards the light
KEY_COLOUR = wp.constant(wp.vec3(2.5, 2.42, 2.3))
RIM = wp.constant(wp.vec3(0.682318, 0.438633, -0.584844))
RIM_COLOUR = wp.constant(wp.vec3(0.9, 1.0, 1.15))
SKY = wp.constant(wp.vec3(0.85, 0.88, 0.93))
GROUND = wp.constant(wp.vec3(0.5, 0.48, 0.46))


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera: `eye` in metres, and the unit vectors right, up and back; float64 [3] each."""

    eye: NDArray[np.float64]
    right: NDArray[np.float64]
    up: NDArray[np.float64]
    back: NDArray[np.float64]

    @classmethod
    def facing(cls, points: NDArray[Any]) -> "Camera":
        """Return the three-quarter view in which the points fill MARGIN of the image."""
        back = np.array([np.sin(YAW_RAD) * np.cos(PITCH_RAD), np.sin(PITCH_RAD), np.cos(YAW_RAD) * np.cos(PITCH_RAD)])
        right = np.cross([0.0, 1.0, 0.0], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        x, y, z = (points.astype(np.float64) @ np.stack([right, up, back], axis=1)).T
        view = HALF_VIEW * MARGIN
        # (x, y, z) is visible if |x - eye_x| <= view * (eye_z - z), and the same for y: four planes, a point on each.
        low_x, high_x = (x + view * z).max(), (x - view * z).min()
        low_y, high_y = (y + view * z).max(), (y - view * z).min()
        distance = max(low_x - high_x, low_y - high_y) / (2 * view)
        eye = right * (low_x + high_x) / 2 + up * (low_y + high_y) / 2 + back * distance
        return cls(eye, right, up, back)

    def project(self, points: NDArray[Any], side_px: int) -> NDArray[np.float32]:
        """Return pixel coordinates from the upper left corner, and 1 / depth; float32 [points, 3]."""
        local = (points.astype(np.float64) - self.eye) @ np.stack([self.right, self.up, self.back], axis=1)
        depth = np.maximum(-local[:, 2], 1e-6)
        scale = side_px / 2 / HALF_VIEW / depth
        pixels: NDArray[Any] = np.stack(
            [side_px / 2 + local[:, 0] * scale, side_px / 2 - local[:, 1] * scale, 1 / depth], axis=1
        )
        return pixels.astype(np.float32)


@wp.func
def backdrop_colour(y: wp.float32) -> wp.vec3:
    """Return the colour of the wall behind the object, linear; y runs from 0 at the top to 1 at the bottom."""
    return wp.lerp(wp.vec3(0.93, 0.94, 0.95), wp.vec3(0.70, 0.71, 0.73), wp.smoothstep(0.0, 1.0, y))


@wp.func
def _reflected_light(direction: wp.vec3, roughness: wp.float32) -> wp.vec3:
    """Return the light from one direction: sky, ground and two soft boxes, the more blurred the rougher the surface."""
    blur = 0.12 + 0.88 * roughness
    light = wp.lerp(GROUND, SKY, wp.smoothstep(-blur, blur, direction[1])) * 0.75
    box = wp.smoothstep(0.86 - 0.5 * blur, 0.86 + 0.12 * blur, wp.dot(direction, KEY))
    strip = wp.smoothstep(0.9 - 0.5 * blur, 0.9 + 0.1 * blur, wp.dot(direction, RIM))
    return light + (1.6 * box + 0.8 * strip) * (1.0 - 0.75 * roughness) * wp.vec3(1.0, 1.0, 1.0)


@wp.func
def _specular(normal: wp.vec3, view: wp.vec3, light: wp.vec3, roughness: wp.float32) -> wp.float32:
    """Return the specular term for one light: GGX distribution with approximate visibility."""
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
    sky_visibility: wp.float32,
    key_visibility: wp.float32,
) -> wp.vec3:
    """Return the light that leaves a surface towards `view`, linear.

    Args:
        colour: base colour, linear. sky_visibility, key_visibility: the unoccluded parts of the sky and of the key
            light, 0-1.
    """
    # 1. Metallic workflow, as in glTF: dielectrics reflect 4 %, metals their base colour.
    base = wp.lerp(wp.vec3(0.04, 0.04, 0.04), colour, metallic)
    diffuse_colour = colour * (1.0 - metallic)
    # 2. Diffuse light: key, rim and sky.
    key = wp.max(wp.dot(normal, KEY), 0.0) * key_visibility
    rim = wp.max(wp.dot(normal, RIM), 0.0) * sky_visibility
    sky = wp.lerp(GROUND, SKY, 0.5 + 0.5 * normal[1]) * (0.62 * sky_visibility)
    direct = KEY_COLOUR * (key * 0.36) + RIM_COLOUR * (rim * 0.25)
    result = wp.cw_mul(diffuse_colour, sky + direct)
    # 3. Reflected surroundings, by Schlick's Fresnel term.
    facing = wp.max(wp.dot(normal, view), 0.0)
    fresnel = base + (wp.vec3(1.0, 1.0, 1.0) - base) * wp.pow(1.0 - facing, 5.0) * (1.0 - 0.7 * roughness)
    mirrored = normal * (2.0 * wp.dot(normal, view)) - view
    result += wp.cw_mul(fresnel, _reflected_light(mirrored, roughness)) * (0.35 + 0.65 * sky_visibility)
    # 4. The key light's highlight.
    result += wp.cw_mul(base, KEY_COLOUR) * (_specular(normal, view, KEY, roughness) * key)
    return result
