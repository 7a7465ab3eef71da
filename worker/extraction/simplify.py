"""Fewer triangles for the same shape: quadric edge collapse, gently at first."""

from typing import Any

import fast_simplification
import numpy as np
from numpy.typing import NDArray

# How fast the allowed error grows between passes. Gentle passes give half the error and may stop above the target;
# the next, less gentle one goes on from there.
AGGRESSION = (3.0, 5.0, 7.0, 10.0)


def simplify(vertices: NDArray[Any], faces: NDArray[Any], target: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most `target` triangles where the shape allows it: float64 [vertices, 3], int32 [faces, 3]."""
    vertices = np.ascontiguousarray(vertices, dtype=np.float64)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    for aggression in AGGRESSION:
        if len(faces) <= target:
            break
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target, agg=aggression)
    return vertices, faces.astype(np.int32)
