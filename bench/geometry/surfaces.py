"""Test surfaces for extraction: each has one difficulty of real assets."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worker.engine import Surface
from worker.extraction.kernels import runtime

Floats = NDArray[np.float64]


def knot(segments: int = 1000, sides: int = 250, resolution: int = 512) -> Surface:
    """A closed tube along a (2, 3) torus knot, rippled: 2 * around * across faces (500,000 by default)."""
    t, s = np.meshgrid(_angles(segments), _angles(sides), indexing="ij")
    centre, normal, binormal = _knot_frame(t)
    radius = 0.085 * (1 + 0.08 * np.sin(9 * s + 5 * t) + 0.05 * np.sin(60 * t))
    points = centre + radius[..., None] * (np.cos(s)[..., None] * normal + np.sin(s)[..., None] * binormal)
    return _build_surface(_fit(points.reshape(-1, 3)), grid_faces(segments, sides, wrap=True), resolution)


def sheet(side: int = 300, resolution: int = 512) -> Surface:
    """A thin open sheet, rolled and rippled: 2 * (side - 1)^2 faces, one boundary loop."""
    u, v = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    points = np.stack([u, v, 0.35 * np.sin(2.5 * u + v) + 0.05 * np.cos(9 * v)], axis=-1)
    return _build_surface(_fit(points.reshape(-1, 3)), grid_faces(side, side, wrap=False), resolution)


def noisy(segments: int = 600, sides: int = 160, resolution: int = 512, seed: int = 7) -> Surface:
    """A thick, rough tube that intersects itself."""
    t, s = np.meshgrid(_angles(segments), _angles(sides), indexing="ij")
    centre, normal, binormal = _knot_frame(t)
    rough = np.random.default_rng(seed).normal(0, 0.015, t.shape)
    radius = 0.24 * (1 + rough)
    points = centre + radius[..., None] * (np.cos(s)[..., None] * normal + np.sin(s)[..., None] * binormal)
    return _build_surface(_fit(points.reshape(-1, 3)), grid_faces(segments, sides, wrap=True), resolution)


def parts(count: int = 400, side: int = 16, resolution: int = 512, seed: int = 3) -> Surface:
    """Many small closed balls of different sizes, some of them overlapping."""
    ball, faces = _ball(side)
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-1, 1, (count, 1, 3))
    radii = rng.uniform(0.02, 0.09, (count, 1, 1))
    points = (centres + radii * ball).reshape(-1, 3)
    many = (faces + (np.arange(count) * len(ball))[:, None, None]).reshape(-1, 3)
    return _build_surface(_fit(points), many, resolution)


def thicken(surface: Surface, reach_cells: float = 2.267, device: str = "cpu") -> Surface:
    """The surface with every cell filled whose middle is that near, as a decoder's voxels are.

    At the default reach the largest knot has 7.7 million voxels at 1024^3.
    """
    side, reach = surface.resolution, int(np.ceil(reach_cells))
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    filled = np.zeros(side**3, dtype=bool)
    for step in steps[np.linalg.norm(steps, axis=1) < reach_cells + 1]:
        x, y, z = (surface.coords + step).clip(0, side - 1).T
        filled[(x * side + y) * side + z] = True
    coords = _unravel_cells(filled, side)
    middle = (coords + 0.5) / side - 0.5
    _, away = runtime.find_closest_points(runtime.build_bvh(surface.vertices, surface.faces, device), middle)
    near = away < reach_cells / side
    return Surface(surface.vertices, surface.faces, coords[near], colours(middle[near]).astype(np.float32), side)


def glaze(surface: Surface) -> Surface:
    """The surface with an alpha that changes from place to place, as `glazed_colours` has it."""
    middle = (surface.coords + 0.5) / surface.resolution - 0.5
    return replace(surface, attributes=glazed_colours(middle).astype(np.float32))


def glazed_colours(points: Floats) -> Floats:
    """`colours` with an alpha between 0.3 and 0.9."""
    material = colours(points)
    material[:, 5] = 0.6 + 0.3 * np.sin(points @ np.array([9.0, 7.0, 5.0]))
    return material


def colours(points: Floats) -> Floats:
    """The material of every surface here, as a function of position: float64 [points, 6] in [0, 1]."""
    x, y, z = (points * 2 * np.pi).T
    red = 0.5 + 0.35 * np.sin(2 * x + 1) + 0.1 * np.sin(11 * y)
    green = 0.45 + 0.3 * np.sin(3 * y + z)
    blue = 0.5 + 0.35 * np.cos(2 * z - x) + 0.1 * np.sin(9 * z)
    metallic = np.where(np.sin(2 * y) > 0.6, 1.0, 0.0)
    roughness = 0.55 + 0.35 * np.sin(x + y + z)
    material: Floats = np.stack([red, green, blue, metallic, roughness, np.ones_like(x)], axis=1)
    return material.clip(0, 1)


def grid_faces(rows: int, columns: int, *, wrap: bool) -> NDArray[np.int32]:
    """Triangles over a grid of vertices, counter-clockwise where rows x columns points outward; int32 [faces, 3]."""
    i, j = np.meshgrid(np.arange(rows - (not wrap)), np.arange(columns - (not wrap)), indexing="ij")
    corner = [(((i + a) % rows) * columns + (j + b) % columns).ravel() for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
    quads = np.stack(corner, axis=1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _angles(count: int) -> Floats:
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def _knot_frame(t: Floats) -> tuple[Floats, Floats, Floats]:
    """Centre line of the (2, 3) torus knot and two unit vectors across it."""

    def line(t: Floats) -> Floats:
        ring = 0.5 + 0.22 * np.cos(3 * t)
        return np.stack([ring * np.cos(2 * t), ring * np.sin(2 * t), 0.28 * np.sin(3 * t)], axis=-1)

    tangent = line(t + 1e-4) - line(t - 1e-4)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    middle = np.stack([0.5 * np.cos(2 * t), 0.5 * np.sin(2 * t), np.zeros_like(t)], axis=-1)
    outward = line(t) - middle
    outward -= (outward * tangent).sum(-1, keepdims=True) * tangent
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    return line(t), outward, np.cross(outward, tangent)


def _ball(side: int) -> tuple[Floats, NDArray[np.int32]]:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, side), _angles(side), indexing="ij")
    ball = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), -np.sin(theta) * np.sin(phi)], axis=-1)
    columns = side
    faces = grid_faces(side, side + 1, wrap=False)
    ring, column = np.divmod(faces, columns + 1)
    return ball.reshape(-1, 3), (ring * columns + column % columns).astype(np.int32)


def _fit(points: Floats) -> Floats:
    """Centre the points and scale them to fill nine tenths of the unit cube."""
    low, high = points.min(axis=0), points.max(axis=0)
    fitted: Floats = (points - (low + high) / 2) * (0.9 / (high - low).max())
    return fitted


def _build_surface(points: Floats, faces: NDArray[np.int32], resolution: int) -> Surface:
    coords = _find_cells(points, faces, resolution)
    attributes = colours((coords + 0.5) / resolution - 0.5)
    return Surface(points.astype(np.float32), faces, coords, attributes.astype(np.float32), resolution)


def _find_cells(points: Floats, faces: NDArray[np.int32], resolution: int) -> NDArray[np.int32]:
    """Find the cells that the faces cross by sampling each face more finely than a cell."""
    corners = points[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max()
    steps = int(np.ceil(longest * resolution))
    filled = np.zeros(resolution**3, dtype=bool)
    for a in range(steps + 1):
        for b in range(steps + 1 - a):
            weights = np.array([a, b, steps - a - b]) / steps
            cell = np.floor((np.einsum("fcd,c->fd", corners, weights) + 0.5) * resolution).astype(np.int64)
            filled[(cell[:, 0] * resolution + cell[:, 1]) * resolution + cell[:, 2]] = True
    return _unravel_cells(filled, resolution)


def _unravel_cells(filled: NDArray[np.bool_], side: int) -> NDArray[np.int32]:
    """Return the filled cells of a grid, int32 [cells, 3]."""
    key = np.flatnonzero(filled)
    return np.stack([key // side**2, key // side % side, key % side], axis=1).astype(np.int32)
