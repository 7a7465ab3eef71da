"""Geometry of triangle meshes: areas, projected areas, face normals, vertex normals."""

from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from worker.extraction.kernels.runtime import to_int32, to_vec3
from worker.extraction.mesh.topology import VertexCorners, vertex_corners

MIN_RELATIVE_AREA = wp.constant(wp.float64(1e-12))  # double area over the longest side squared; less has no normal
FULL_WEIGHT_COS = wp.constant(wp.float64(np.cos(np.radians(35))))  # a face within 35 degrees of a vertex's own normal
NO_WEIGHT_COS = wp.constant(wp.float64(np.cos(np.radians(65))))  # counts fully, one beyond 65 degrees not at all
TINY = wp.constant(wp.float64(1e-30))
HALF = wp.constant(wp.float64(0.5))  # a unit vector's squared length is above this, a zero vector's below


def signed_areas_2d(triangles: NDArray[Any]) -> NDArray[np.float64]:
    """Return the areas of triangles in the plane, negative for clockwise ones; float64 [triangles].

    Args:
        triangles: [triangles, 3, 2].
    """
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    areas: NDArray[np.float64] = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).astype(np.float64) / 2
    return areas


def projected_areas(vertices: wp.array, faces: wp.array) -> NDArray[np.float64]:
    """Return twice the sum of each face's areas projected along the x, y and z axes; float64 [faces].

    Args:
        vertices: vec3 [vertices]. faces: int32 [faces, 3]. Both on one device.
    """
    areas = wp.empty(len(faces), dtype=wp.float64, device=vertices.device)
    wp.launch(_project_areas, dim=len(faces), inputs=[vertices, faces, areas], device=vertices.device)
    double_areas: NDArray[np.float64] = areas.numpy()
    return double_areas


def non_degenerate(vertices: NDArray[Any], faces: NDArray[Any], device: str) -> NDArray[np.bool_]:
    """Return which faces have an area, and so a normal; bool [faces]."""
    has_normal = wp.empty(len(faces), dtype=wp.bool, device=device)
    inputs = [to_vec3(vertices, device), to_int32(faces, device), has_normal]
    wp.launch(_test_areas, dim=len(faces), inputs=inputs, device=device)
    flags: NDArray[np.bool_] = has_normal.numpy()
    return flags


def face_normals(
    vertices: NDArray[Any], faces: NDArray[Any], device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each face's normal with its area as length, and its three side lengths; float64 [faces, 3] both."""
    positions = wp.array(np.ascontiguousarray(vertices, dtype=np.float64), dtype=wp.vec3d, device=device)
    normals = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    sides = wp.empty(len(faces), dtype=wp.vec3d, device=device)
    inputs = [positions, to_int32(faces, device), normals, sides]
    wp.launch(_compute_face_normals, dim=len(faces), inputs=inputs, device=device)
    return normals.numpy(), sides.numpy()


def vertex_normals(
    vertices: NDArray[Any], faces: NDArray[np.int32], split: NDArray[np.int32], device: str = "cpu"
) -> NDArray[np.float32]:
    """Compute unit normals of vertices that are doubled at chart seams; float32 [split vertices, 3].

    A split vertex first takes the mean of its own faces' normals, weighted by their angles there (Thürmer and
    Wüthrich 1998). Then all faces at the same position are averaged, weighted by how little they lean away from that
    mean: a seam across a smooth surface stays invisible, and a seam along a crease stays sharp.

    Args:
        vertices: float [vertices, 3]. faces: int32 [faces, 3] into them. split: int32 [faces, 3], the same faces over
            the split vertices.
    """
    positions = wp.array(np.ascontiguousarray(vertices, dtype=np.float64), dtype=wp.vec3d, device=device)
    corners, split_corners = to_int32(faces, device), to_int32(split, device)
    weighted = wp.empty(3 * len(faces), dtype=wp.vec3d, device=device)
    wp.launch(_weight_by_angle, dim=len(faces), inputs=[positions, corners, weighted], device=device)
    count = int(split.max()) + 1
    normal = wp.empty(count, dtype=wp.vec3, device=device)
    inputs = [weighted, vertex_corners(split_corners, count), vertex_corners(corners, len(vertices)), normal]
    wp.launch(_blend_normals, dim=count, inputs=inputs, device=device)
    unit: NDArray[np.float32] = normal.numpy()
    return unit


@wp.func
def _unit(v: wp.vec3d) -> wp.vec3d:
    return v / wp.max(wp.length(v), TINY)


@wp.kernel
def _test_areas(positions: wp.array[wp.vec3], faces: wp.array2d[wp.int32], has_normal: wp.array[wp.bool]) -> None:
    """Compare one face's double area with its longest side squared, so that the test does not depend on scale."""
    face = wp.tid()
    a = wp.vec3d(positions[faces[face, 0]])
    b = wp.vec3d(positions[faces[face, 1]])
    c = wp.vec3d(positions[faces[face, 2]])
    double_area = wp.length(wp.cross(b - a, c - a))
    longest = wp.max(wp.length_sq(a - b), wp.max(wp.length_sq(b - c), wp.length_sq(c - a)))
    has_normal[face] = double_area > MIN_RELATIVE_AREA * wp.max(longest, wp.float64(1.0e-12))


@wp.kernel
def _project_areas(positions: wp.array[wp.vec3], faces: wp.array2d[wp.int32], areas: wp.array[wp.float64]) -> None:
    """Compute twice the projected areas: the components of the cross product of two sides."""
    face = wp.tid()
    a = wp.vec3d(positions[faces[face, 0]])
    cross = wp.cross(wp.vec3d(positions[faces[face, 1]]) - a, wp.vec3d(positions[faces[face, 2]]) - a)
    areas[face] = wp.abs(cross[0]) + wp.abs(cross[1]) + wp.abs(cross[2])


@wp.kernel
def _compute_face_normals(
    positions: wp.array[wp.vec3d],
    faces: wp.array2d[wp.int32],
    normals: wp.array[wp.vec3d],
    sides: wp.array[wp.vec3d],
) -> None:
    """Half the cross product of two sides is normal to the face and as long as its area."""
    face = wp.tid()
    a = positions[faces[face, 0]]
    b = positions[faces[face, 1]]
    c = positions[faces[face, 2]]
    normals[face] = wp.cross(b - a, c - a) * wp.float64(0.5)
    sides[face] = wp.vec3d(wp.length(b - a), wp.length(c - b), wp.length(a - c))


@wp.kernel
def _weight_by_angle(positions: wp.array[wp.vec3d], faces: wp.array2d[wp.int32], weighted: wp.array[wp.vec3d]) -> None:
    """Write for each corner of one face the face's normal with the corner's angle, in radians, as length."""
    face = wp.tid()
    a = positions[faces[face, 0]]
    b = positions[faces[face, 1]]
    c = positions[faces[face, 2]]
    # From unit sides, so that a tiny face keeps its direction.
    normal = _unit(wp.cross(_unit(b - a), _unit(c - a)))
    for column in range(3):
        corner = positions[faces[face, column]]
        ahead = _unit(positions[faces[face, (column + 1) % 3]] - corner)
        back = _unit(positions[faces[face, (column + 2) % 3]] - corner)
        angle_cos = wp.clamp(wp.dot(ahead, back), wp.float64(-1.0), wp.float64(1.0))
        weighted[3 * face + column] = normal * wp.acos(angle_cos)


@wp.kernel
def _blend_normals(
    weighted: wp.array[wp.vec3d], split: VertexCorners, mesh: VertexCorners, normal: wp.array[wp.vec3]
) -> None:
    """Compute the normal of one split vertex."""
    i = wp.tid()
    own = wp.vec3d()
    total = wp.vec3d()
    if split.begin[i] < split.end[i]:
        # 1. The mean normal of the faces on this vertex's own side of the seam.
        for at in range(split.begin[i], split.end[i]):
            own += weighted[split.corner[at]]
        own = _unit(own)
        # 2. The mesh vertex that it was split from: the same corner in the mesh.
        first = split.corner[split.begin[i]]
        vertex = mesh.faces[first / 3, first % 3]
        # 3. All faces there, from full weight at 35 degrees to none at 65.
        for at in range(mesh.begin[vertex], mesh.end[vertex]):
            candidate = weighted[mesh.corner[at]]
            share = (wp.dot(_unit(candidate), own) - NO_WEIGHT_COS) / (FULL_WEIGHT_COS - NO_WEIGHT_COS)
            total += candidate * wp.clamp(share, wp.float64(0.0), wp.float64(1.0))
        total = _unit(total)
    # 4. Where the sum cancels out, the own mean; where that does too, straight up.
    if wp.length_sq(total) < HALF:
        total = own
    if wp.length_sq(total) < HALF:
        total = wp.vec3d(wp.float64(0.0), wp.float64(1.0), wp.float64(0.0))
    normal[i] = wp.vec3(total)
