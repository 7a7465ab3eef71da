"""Quadric error metric (Garland and Heckbert, Surface Simplification Using Quadric Error Metrics, 1997).

A quadric sums squared distances from planes, weighted by area: its value at a point has the unit m^4.
"""

from typing import TYPE_CHECKING, Any

import warp as wp

if TYPE_CHECKING:
    Quadric = Any
else:
    # The upper triangle of the symmetric 4 x 4 matrix, row by row: xx xy xz xw yy yz yw zz zw ww.
    Quadric = wp.types.vector(length=10, dtype=wp.float64)

LENGTH_WEIGHT = wp.constant(wp.float64(1e-6))  # where the surface is flat, short edges collapse first
MIDPOINT_WEIGHT = wp.constant(wp.float64(1e-5))  # regularization: pulls the new vertex to the middle of its edge


@wp.func
def plane_quadric(n: wp.vec3d, point: wp.vec3d, weight: wp.float64) -> Quadric:
    """Return the quadric of the plane through a point with unit normal n: the outer product of (n, -n . point)."""
    d = -wp.dot(n, point)
    return weight * Quadric(
        n[0] * n[0], n[0] * n[1], n[0] * n[2], n[0] * d, n[1] * n[1],
        n[1] * n[2], n[1] * d, n[2] * n[2], n[2] * d, d * d,
    )  # fmt: skip


@wp.func
def best_position(q: Quadric, middle: wp.vec3d) -> wp.vec3d:
    """Return the position with the least error, held weakly at the middle: a flat quadric has no unique minimum."""
    hold = MIDPOINT_WEIGHT * (q[0] + q[4] + q[7]) + wp.float64(1.0e-30)
    a = wp.mat33d(q[0] + hold, q[1], q[2], q[1], q[4] + hold, q[5], q[2], q[5], q[7] + hold)
    return wp.inverse(a) * (hold * middle - wp.vec3d(q[3], q[6], q[8]))


@wp.func
def quadric_error(q: Quadric, p: wp.vec3d) -> wp.float64:
    """Evaluate the quadratic form at (p, 1)."""
    two = wp.float64(2.0)
    return wp.abs(
        p[0] * (q[0] * p[0] + two * (q[1] * p[1] + q[2] * p[2] + q[3]))
        + p[1] * (q[4] * p[1] + two * (q[5] * p[2] + q[6]))
        + p[2] * (q[7] * p[2] + two * q[8])
        + q[9]
    )


@wp.func
def edge_cost(q: Quadric, p: wp.vec3d, edge: wp.vec3d) -> wp.float64:
    """Return the error of a collapse to p, and a small term for the edge's length."""
    return quadric_error(q, p) + LENGTH_WEIGHT * (q[0] + q[4] + q[7]) * wp.length_sq(edge)
