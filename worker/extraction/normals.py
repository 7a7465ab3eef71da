"""Vertex normals of a mesh."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def smooth(vertices: NDArray[Any], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """Unit normals, each the mean of its faces' weighted by their angle at the vertex; float32 [vertices, 3].

    The weights are Thurmer and Wuthrich's (1998): the result does not hang on how a flat region is cut up.
    """
    corners = vertices[faces].astype(np.float64)
    ahead = _unit(np.roll(corners, -1, axis=1) - corners)
    back = _unit(np.roll(corners, 1, axis=1) - corners)
    angle = np.arccos(np.clip((ahead * back).sum(axis=2), -1, 1))
    face_normal = _unit(np.cross(ahead[:, 0], back[:, 0]))
    weighted = angle[:, :, None] * face_normal[:, None]
    total = np.stack(
        [np.bincount(faces.ravel(), weighted[..., axis].ravel(), len(vertices)) for axis in range(3)], axis=1
    )
    normal = _unit(total)
    normal[(normal**2).sum(axis=1) < 0.5] = (0, 1, 0)
    return normal.astype(np.float32)


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    unit: NDArray[Any] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return unit
