"""Meshes and charts for the tests of unwrapping."""

import numpy as np


def ramp(turns: float, steps: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A spiral ramp: every face points up, but seen from above it overlaps itself."""
    t = np.linspace(0, turns * 2 * np.pi, steps)
    circle = np.stack([np.cos(t), 0.05 * t, np.sin(t)], axis=1)
    return np.concatenate([circle * [0.5, 1, 0.5], circle]), np.concatenate(
        [[[i, steps + i + 1, steps + i], [i, i + 1, steps + i + 1]] for i in range(steps - 1)]
    ).astype(np.int32)


def squares(count: int, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal squares, each a chart: points, faces, and the chart of each face."""
    square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(count)]).astype(np.int32)
    return np.tile(square, (count, 1)), faces, np.repeat(np.arange(count), 2)
