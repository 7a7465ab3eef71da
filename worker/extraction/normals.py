"""Vertex normals: smooth where the surface is, sharp where two charts meet at a crease."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMOOTH_TO = np.cos(np.radians(35))  # faces that lean less than this from a vertex's own count in full,
SHARP_FROM = np.cos(np.radians(65))  # and those that lean more not at all


def normals(vertices: NDArray[Any], faces: NDArray[np.int32], split: NDArray[np.int32]) -> NDArray[np.float32]:
    """Unit normals of the split vertices; float32 [split vertices, 3].

    A split vertex first takes the mean of its own faces, weighted by their angle there (Thurmer and Wuthrich 1998).
    Then all faces at the same place join in, as far as they lean alike: a seam stays invisible, an edge stays an edge.

    vertices: float [vertices, 3]. faces: int32 [faces, 3] into them. split: int32 [faces, 3], the same faces over
    vertices that are doubled where charts meet.
    """
    weighted = _weighted(vertices[faces].astype(np.float64)).reshape(-1, 3)
    count = int(split.max()) + 1
    own = _unit(_sums(split.ravel(), weighted, count))
    whole, here = _meetings(faces.ravel(), split.ravel(), len(vertices), count)
    alike = np.einsum("md,md->m", _unit(weighted[here]), own[whole])
    share = np.clip((alike - SHARP_FROM) / (SMOOTH_TO - SHARP_FROM), 0, 1)
    normal = _unit(_sums(whole, weighted[here] * share[:, None], count))
    lost = (normal**2).sum(axis=1) < 0.5
    normal[lost] = own[lost]
    normal[(normal**2).sum(axis=1) < 0.5] = (0, 1, 0)
    return normal.astype(np.float32)


def _weighted(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each corner's face normal, as long as the corner's angle; float64 [faces, 3, 3]."""
    ahead = _unit(np.roll(corners, -1, axis=1) - corners)
    back = _unit(np.roll(corners, 1, axis=1) - corners)
    angle = np.arccos(np.clip((ahead * back).sum(axis=2), -1, 1))
    weighted: NDArray[np.float64] = angle[:, :, None] * _unit(np.cross(ahead[:, 0], back[:, 0]))[:, None]
    return weighted


def _meetings(
    place: NDArray[Any], split: NDArray[Any], place_count: int, split_count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of a split vertex and a face corner at the same place."""
    by_place = np.argsort(place, kind="stable")
    degree = np.bincount(place, minlength=place_count)
    first = np.cumsum(degree) - degree
    place_of = np.zeros(split_count, dtype=np.int64)
    place_of[split] = place
    times = degree[place_of]
    whole = np.repeat(np.arange(split_count), times)
    within = np.arange(len(whole)) - np.repeat(np.cumsum(times) - times, times)
    return whole, by_place[first[place_of[whole]] + within]


def _sums(group: NDArray[Any], rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(group, rows[:, axis], count) for axis in range(3)], axis=1)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    unit: NDArray[Any] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return unit
