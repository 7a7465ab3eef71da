"""Draws the sample pictures beside it: `python docs/samples/draw.py`. Needs NumPy and Pillow, and two minutes.

Each toy is a signed distance function (after Inigo Quilez's articles), found by sphere tracing and lit by a soft key
light, a bright sky and a softbox that the glaze mirrors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Shape = Callable[[Array], Array]  # points [n, 3] -> signed distances [n]
Coat = Callable[[Array], Array]  # points [n, 3] -> linear colours [n, 3]

SIDE_PX = 768
SAMPLES = 2  # along each side of a pixel
FLOOR_Y = -1.0
KEY = np.array([-0.55, 0.75, 0.6], np.float32) / np.float32(1.108)
SOFTBOX = np.array([-0.62, 0.5, 0.6], np.float32)
EYE_LEVEL = np.array([0.0, 0.75, 6.5], np.float32)
EYE_ABOVE = np.array([0.0, 1.9, 6.3], np.float32)
TARGET = np.array([0.0, -0.02, 0.0], np.float32)
FIELD = 0.225  # half the width of the view, as a tangent


@dataclass(frozen=True)
class Part:
    """A shape and what covers it; gloss 0-1 is how strongly it mirrors, sheen_power how sharply."""

    shape: Shape
    coat: Coat
    gloss: float = 0.5
    sheen_power: float = 60.0


def vector(*values: float) -> Array:
    return np.array(values, np.float32)


def plain(red: int, green: int, blue: int) -> Coat:
    """One colour all over, given in sRGB bytes."""
    colour = linear(vector(red, green, blue) / 255)
    return lambda p: np.broadcast_to(colour, p.shape)


def linear(srgb: Array) -> Array:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encoded(light: Array) -> Array:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def length(p: Array) -> Array:
    return np.sqrt((p * p).sum(axis=-1))


def ball(radius: float, at: Array, squash: Array | None = None) -> Shape:
    """A ball, or an ellipsoid where `squash` gives its half axes."""
    if squash is None:
        return lambda p: length(p - at) - radius

    def ellipsoid(p: Array) -> Array:
        q = p - at
        near, nearer = length(q / squash), length(q / (squash * squash))
        return near * (near - 1) / np.maximum(nearer, 1e-4)

    return ellipsoid


def box(half: Array, at: Array, rounding: float) -> Shape:
    def distance(p: Array) -> Array:
        q = np.abs(p - at) - (half - rounding)
        return length(np.maximum(q, 0)) + np.minimum(q.max(axis=-1), 0) - rounding

    return distance


def rod(start: Array, end: Array, radius: float) -> Shape:
    axis = end - start

    def distance(p: Array) -> Array:
        along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
        return length(p - start - along[:, None] * axis) - radius

    return distance


def drum(radius: float, half_height: float, at: Array, rounding: float, axis: int = 1) -> Shape:
    """A cylinder with rounded edges along an axis (0 to 2)."""
    across = [index for index in range(3) if index != axis]

    def distance(p: Array) -> Array:
        q = p - at
        radial = length(q[:, across]) - radius + rounding
        axial = np.abs(q[:, axis]) - half_height + rounding
        outside = np.sqrt(np.maximum(radial, 0) ** 2 + np.maximum(axial, 0) ** 2)
        return outside + np.minimum(np.maximum(radial, axial), 0) - rounding

    return distance


def ring(radius: float, thickness: float, at: Array, stretch: float = 1.0) -> Shape:
    """A torus facing the viewer, `stretch` times as high as wide."""

    def distance(p: Array) -> Array:
        q = p - at
        around = np.sqrt(q[:, 0] ** 2 + (q[:, 1] / stretch) ** 2) - radius
        return np.sqrt(around**2 + q[:, 2] ** 2) - thickness

    return distance


def joined(first: Shape, second: Shape, softness: float) -> Shape:
    """Two shapes that flow into each other (polynomial smooth minimum)."""

    def distance(p: Array) -> Array:
        a, b = first(p), second(p)
        blend = np.maximum(softness - np.abs(a - b), 0) / softness
        return np.minimum(a, b) - blend * blend * softness / 4

    return distance


def without(shape: Shape, cut: Shape) -> Shape:
    return lambda p: np.maximum(shape(p), -cut(p))


def mug() -> list[Part]:
    """A glazed mug: teal, with a cream band, waves and dots."""
    inside = drum(0.6, 0.95, vector(-0.2, 0.3, 0), 0.12)
    wall = without(drum(0.7, 0.85, vector(-0.2, -0.1, 0), 0.06), inside)
    handle = without(ring(0.36, 0.095, vector(0.5, -0.08, 0), 1.2), drum(0.64, 2, vector(-0.2, 0, 0), 0.01))
    teal, cream, coral, clay = (
        linear(vector(*c) / 255) for c in ((22, 128, 138), (247, 236, 213), (235, 104, 72), (176, 120, 86))
    )

    def glaze(p: Array) -> Array:
        angle, height = np.arctan2(p[:, 0] + 0.2, p[:, 2]), p[:, 1]
        wave = 0.07 * np.sin(9 * angle)
        colour = np.where((np.abs(height + 0.1) < 0.33)[:, None], cream, teal)
        colour = np.where((np.abs(height - 0.05 - wave) < 0.035)[:, None], coral, colour)
        colour = np.where((np.abs(height + 0.25 - wave) < 0.035)[:, None], teal, colour)
        turn = (angle * 9 / (2 * np.pi) - 0.25 + 0.5) % 1 - 0.5
        dot = np.hypot(turn * 2 * np.pi / 9 * 0.7, height + 0.02) < 0.045
        colour = np.where(dot[:, None], teal, colour)
        from_axis = np.hypot(p[:, 0] + 0.2, p[:, 2])
        colour = np.where((from_axis > 0.72)[:, None], teal, colour)
        colour = np.where(((from_axis < 0.62) & (height > -0.7))[:, None], cream, colour)
        return np.where((height < -0.9)[:, None], clay, colour)

    return [Part(joined(wall, handle, 0.08), glaze, gloss=0.9, sheen_power=140)]


def robot() -> list[Part]:
    """A tin robot with round eyes and a dial on its chest."""
    red, cream, steel = plain(214, 62, 48), plain(244, 230, 200), plain(150, 158, 168)
    dark, blue, yellow = plain(38, 42, 54), plain(64, 150, 214), plain(248, 190, 52)
    parts = [
        Part(box(vector(0.46, 0.42, 0.32), vector(0, -0.18, 0), 0.1), red),
        Part(box(vector(0.38, 0.27, 0.28), vector(0, 0.58, 0), 0.12), cream),
        Part(drum(0.14, 0.1, vector(0, 0.28, 0), 0.03), steel, gloss=0.8),
        Part(rod(vector(0, 0.8, 0), vector(0, 1.02, 0), 0.03), steel, gloss=0.8),
        Part(ball(0.085, vector(0, 1.07, 0)), yellow),
        Part(box(vector(0.3, 0.2, 0.05), vector(0, -0.12, 0.31), 0.04), cream),
        Part(drum(0.1, 0.03, vector(-0.13, -0.1, 0.36), 0.02, axis=2), blue, gloss=0.8),
        Part(rod(vector(-0.13, -0.1, 0.4), vector(-0.08, -0.03, 0.4), 0.016), dark),
        Part(box(vector(0.16, 0.035, 0.03), vector(0, 0.43, 0.27), 0.02), dark),
    ]
    for index, colour in enumerate((yellow, red, blue)):
        parts.append(Part(ball(0.045, vector(0.06 + 0.09 * index, -0.06, 0.36)), colour, gloss=0.8))
        parts.append(Part(box(vector(0.035, 0.012, 0.02), vector(0.06 + 0.09 * index, -0.18, 0.36), 0.01), dark))
    for side in (-1, 1):
        parts += [
            Part(drum(0.13, 0.05, vector(0.16 * side, 0.62, 0.27), 0.03, axis=2), steel, gloss=0.8),
            Part(ball(0.1, vector(0.16 * side, 0.62, 0.29)), plain(252, 252, 246), gloss=0.9, sheen_power=200),
            Part(ball(0.05, vector(0.15 * side, 0.62, 0.36)), dark, gloss=0.9, sheen_power=200),
            Part(drum(0.09, 0.06, vector(0.41 * side, 0.58, 0), 0.03, axis=0), red),
            Part(ball(0.13, vector(0.53 * side, 0.06, 0)), steel, gloss=0.8),
            Part(rod(vector(0.54 * side, 0.04, 0), vector(0.68 * side, -0.3, 0.12), 0.08), cream),
            Part(ball(0.12, vector(0.69 * side, -0.36, 0.14)), red),
            Part(rod(vector(0.22 * side, -0.6, 0), vector(0.22 * side, -0.85, 0), 0.11), steel, gloss=0.8),
            Part(box(vector(0.19, 0.1, 0.27), vector(0.24 * side, -0.9, 0.08), 0.08), red),
        ]
    return parts


def duck() -> list[Part]:
    """A rubber duck, looking a little to its side."""
    yellow, orange = plain(250, 204, 48), plain(240, 122, 34)
    body = ball(0, vector(0.08, -0.5, 0), vector(0.8, 0.5, 0.55))
    tail = ball(0, vector(0.8, -0.22, 0), vector(0.24, 0.17, 0.2))
    head = ball(0.43, vector(-0.34, 0.3, 0.05))
    wing = ball(0, vector(0.22, -0.42, 0.47), vector(0.4, 0.23, 0.14))
    bird = joined(joined(joined(body, tail, 0.35), head, 0.22), wing, 0.06)
    upper = ball(0, vector(-0.72, 0.25, 0.22), vector(0.22, 0.07, 0.17))
    lower = ball(0, vector(-0.69, 0.15, 0.22), vector(0.16, 0.055, 0.13))
    eyes = [
        Part(ball(0.085, vector(x, 0.42, z)), plain(250, 250, 250), 0.9, 200) for x, z in ((-0.36, 0.43), (-0.66, 0.26))
    ]
    pupils = [
        Part(ball(0.055, vector(x, 0.42, z)), plain(24, 24, 28), 0.9, 200) for x, z in ((-0.385, 0.475), (-0.7, 0.275))
    ]
    return [Part(bird, yellow, 0.6, 80), Part(joined(upper, lower, 0.05), orange, 0.6, 80), *eyes, *pupils]


def nearest(parts: list[Part], p: Array) -> Array:
    return np.minimum.reduce([part.shape(p) for part in parts])


def trace(parts: list[Part], origin: Array, ray: Array, reach: float, hardness: float = 7) -> tuple[Array, Array]:
    """Walk along each ray: (distance to the surface, or `reach`; how much light passes by it, 0-1)."""
    travelled = np.full(len(ray), 0.02, np.float32)
    passing = np.ones(len(ray), np.float32)
    going = np.arange(len(ray))
    for _ in range(90):
        gap = nearest(parts, origin[going] + ray[going] * travelled[going, None])
        passing[going] = np.minimum(passing[going], hardness * np.maximum(gap, 0) / travelled[going])
        travelled[going] += np.maximum(gap * 0.9, 5e-4)
        going = going[(gap > 8e-4) & (travelled[going] < reach)]
        if not going.size:
            break
    travelled[going] = reach
    return np.minimum(travelled, reach), passing


def normals(parts: list[Part], p: Array) -> Array:
    """The distance's gradient, from four points around (a tetrahedron)."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    total = sum(corner * nearest(parts, p + corner * 1e-3)[:, None] for corner in corners)
    return np.asarray(total / np.maximum(length(np.asarray(total)), 1e-9)[:, None], np.float32)


def open_sky(parts: list[Part], p: Array, normal: Array) -> Array:
    """How much of the sky a point sees: sampled outward along its normal."""
    hidden = np.zeros(len(p), np.float32)
    for step, weight in ((0.05, 1.0), (0.12, 0.7), (0.25, 0.5), (0.5, 0.35)):
        hidden += weight * np.maximum(step - nearest(parts, p + normal * step), 0) / step
    return np.clip(1 - 0.45 * hidden, 0.1, 1)


def surroundings(direction: Array) -> Array:
    """The light that comes from a direction: a pale studio with a softbox at the upper left."""
    up = 0.5 + 0.5 * direction[:, 1]
    towards = direction @ (SOFTBOX / np.linalg.norm(SOFTBOX))
    softbox = np.clip((towards - 0.93) / 0.025, 0, 1)
    return 0.25 + 0.55 * up + 2.2 * softbox


def lit(parts: list[Part], p: Array, ray: Array) -> Array:
    """The linear light that the parts send back along the rays."""
    normal = normals(parts, p)
    which = np.stack([part.shape(p) for part in parts]).argmin(axis=0)
    colour, gloss, power = np.zeros_like(p), np.zeros(len(p), np.float32), np.zeros(len(p), np.float32)
    for index, part in enumerate(parts):
        mine = which == index
        colour[mine] = part.coat(p[mine])
        gloss[mine], power[mine] = part.gloss, part.sheen_power
    sky = open_sky(parts, p, normal)
    _, passing = trace(parts, p + normal * 0.01, np.broadcast_to(KEY, p.shape), 4)
    key = np.clip(normal @ KEY, 0, 1) * passing
    bounce = np.clip(0.5 - 0.5 * normal[:, 1], 0, 1) * 0.25
    diffuse = colour * (0.72 * key + sky * (0.3 + 0.2 * normal[:, 1]) + bounce * sky)[:, None]
    mirrored = ray - 2 * (ray * normal).sum(axis=1, keepdims=True) * normal
    fresnel = 0.04 + 0.96 * (1 - np.clip(-(ray * normal).sum(axis=1), 0, 1)) ** 5
    half = KEY - ray
    glint = np.clip((normal * half).sum(axis=1) / length(half), 0, 1) ** power
    shine = gloss * sky * (0.8 * fresnel * surroundings(mirrored) + 0.35 * glint * passing)
    return np.asarray(diffuse + shine[:, None], np.float32)


def backdrop(parts: list[Part], eye: Array, ray: Array, paper: Array) -> Array:
    """A sheet of paper that runs from the floor up behind, with the toy's soft shadow on it."""
    light = np.broadcast_to(paper, ray.shape).copy()
    down = np.flatnonzero(ray[:, 1] < -1e-3)
    reach = (FLOOR_Y - eye[1]) / ray[down, 1]
    floor = eye + ray[down] * reach[:, None]
    close = reach < 14
    floor, down = floor[close], down[close]
    up = np.broadcast_to(vector(0, 1, 0), floor.shape)
    _, passing = trace(parts, floor + 0.01 * up, np.broadcast_to(KEY, floor.shape), 4, hardness=2.5)
    near = np.clip(nearest(parts, floor) / 0.5, 0, 1)
    light[down] *= (0.78 + 0.22 * passing * (0.4 + 0.6 * near))[:, None]
    return light


def draw(parts: list[Part], eye: Array, paper: Array | None) -> Image.Image:
    """Render on paper of a linear colour, or with alpha where `paper` is None."""
    side = SIDE_PX * SAMPLES
    forward = (TARGET - eye) / np.linalg.norm(TARGET - eye)
    right = np.cross(forward, vector(0, 1, 0))
    right /= np.linalg.norm(right)
    across = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1) * FIELD
    x, y = (grid.ravel()[:, None] for grid in np.meshgrid(across, -across))
    ray = (forward + x * right + y * np.cross(right, forward)).astype(np.float32)
    ray /= length(ray)[:, None]
    travelled, _ = trace(parts, np.broadcast_to(eye, ray.shape), ray, 9)
    hit = travelled < 9
    light = np.zeros_like(ray) if paper is None else backdrop(parts, eye, ray, paper)
    light[hit] = lit(parts, eye + ray[hit] * travelled[hit, None], ray[hit])
    pixels = np.concatenate([np.clip(light, 0, 1), hit[:, None]], axis=1).reshape(SIDE_PX, SAMPLES, SIDE_PX, SAMPLES, 4)
    mean = pixels.mean(axis=(1, 3))
    if paper is not None:
        return Image.fromarray((encoded(mean[..., :3]) * 255 + 0.5).astype(np.uint8))
    straight = encoded(mean[..., :3] / np.maximum(mean[..., 3:], 1e-4))
    return Image.fromarray((np.concatenate([straight, mean[..., 3:]], axis=2) * 255 + 0.5).astype(np.uint8))


def main() -> None:
    """Draw all samples."""
    here = Path(__file__).parent
    draw(mug(), EYE_ABOVE, None).save(here / "mug.png", optimize=True)
    draw(robot(), EYE_LEVEL, vector(0.93, 0.93, 0.92)).save(here / "robot.jpg", quality=90)
    draw(duck(), EYE_LEVEL, vector(0.72, 0.78, 0.84)).save(here / "duck.webp", quality=88, method=6)


if __name__ == "__main__":
    main()
