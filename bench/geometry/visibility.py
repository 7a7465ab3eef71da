"""What of a mesh a camera outside could see: points from which some straight way leads out."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels import runtime

WAYS = 64  # directions that are tried from each point
CLEAR_M = 2e-5  # how far off its own face a ray begins
REACH_M = 10.0


def seen(
    surface: wp.Mesh, points: NDArray[Any], normals: NDArray[Any], *, both_sides: bool, start_m: float = CLEAR_M
) -> NDArray[np.bool_]:
    """Which points of a surface can be seen from outside: from the side of their normal, or from either side.

    points: [points, 3] on the surface. normals: [points, 3], of any length.
    """
    device = str(surface.points.device)
    flags = wp.zeros(len(points), dtype=wp.bool, device=device)
    inputs = [surface.id, runtime.to_vec3(points, device), runtime.to_vec3(normals, device), both_sides, start_m]
    wp.launch(_look, dim=len(points), inputs=[*inputs, runtime.to_vec3(_ways(), device), flags], device=device)
    found: NDArray[np.bool_] = flags.numpy()
    return found


def _ways() -> NDArray[np.float64]:
    """Directions spread evenly over the sphere along a spiral, near ones far apart in the list."""
    number = np.arange(WAYS) * 23 % WAYS
    height = 1 - (2 * number + 1) / WAYS
    turn = number * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)


@wp.kernel
def _look(
    surface: wp.uint64,
    points: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    both_sides: wp.bool,
    start_m: wp.float32,
    ways: wp.array[wp.vec3],
    flags: wp.array[wp.bool],
) -> None:
    i = wp.tid()
    normal = wp.normalize(normals[i])
    for way in range(ways.shape[0]):
        cosine = wp.dot(ways[way], normal)
        if cosine > 0.02 or (both_sides and cosine < -0.02):
            start = points[i] + normal * wp.sign(cosine) * start_m
            query = wp.mesh_query_ray(surface, start, ways[way], REACH_M)
            if not query.result:
                flags[i] = True
                return
