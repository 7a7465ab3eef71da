"""Repair a surface before extraction: drop invalid vertices, faces and voxels; make the winding consistent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from shared.errors import EmptySurface, OutputInvalid
from worker.engine import Surface
from worker.extraction.mesh.geometry import non_degenerate
from worker.extraction.mesh.topology import compact_indices

MAX_COORDINATE_M = 4.0  # the grid spans one metre; a vertex farther out is an error


def sanitize(surface: Surface, device: str = "cpu") -> Surface:
    """Drop what later phases cannot process, and clip attributes to [0, 1].

    Dropped are vertices that are not finite or out of range, faces on them or without an area, and voxels outside the
    grid or with attributes that are not finite.

    Raises:
        EmptySurface: no face or no voxel is left.
        OutputInvalid: the arrays do not have the shapes that `Surface` describes.
    """
    _check_shapes(surface)
    faces, vertices = _valid_faces(surface, device), surface.vertices
    if len(faces) == 0:
        raise EmptySurface("the surface has no face that can be used")
    used, faces = compact_indices(faces, len(vertices))
    coords, attributes = _valid_voxels(surface)
    if len(coords) == 0:
        raise EmptySurface("the surface has no voxel that can be used")
    return Surface(
        vertices=np.ascontiguousarray(vertices[used], dtype=np.float32),
        faces=faces,
        coords=np.ascontiguousarray(coords, dtype=np.int32),
        attributes=np.clip(attributes, 0, 1).astype(np.float32),
        resolution=surface.resolution,
    )


def _valid_faces(surface: Surface, device: str) -> NDArray[np.int32]:
    """Return the faces whose vertices exist, are finite and in range, and that have an area.

    Nearly every surface is valid: the minimum and maximum of all numbers show it sooner than a test of each row.
    """
    vertices, faces = surface.vertices, surface.faces
    if not _all_within(faces, 0, len(vertices) - 1):
        faces = faces[((faces >= 0) & (faces < len(vertices))).all(axis=1)]
    if not _all_within(vertices, -MAX_COORDINATE_M, MAX_COORDINATE_M):
        with np.errstate(invalid="ignore"):
            in_range: NDArray[np.bool_] = np.all(np.abs(vertices) <= MAX_COORDINATE_M, axis=1)
        faces = faces[in_range[faces].all(axis=1)]
    has_normal = non_degenerate(vertices, faces, device)
    return faces if has_normal.all() else faces[has_normal]


def _valid_voxels(surface: Surface) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return coordinates and attributes of the voxels inside the grid whose attributes are finite."""
    coords, attributes = surface.coords, surface.attributes
    if _all_within(coords, 0, surface.resolution - 1) and np.isfinite(attributes).all():
        return coords, attributes
    inside = ((coords >= 0) & (coords < surface.resolution)).all(axis=1) & np.isfinite(attributes).all(axis=1)
    return coords[inside], attributes[inside]


def _all_within(rows: NDArray[Any], low: float, high: float) -> bool:
    """Return whether all numbers are in [low, high]; false if any is NaN."""
    return rows.size == 0 or bool(rows.min() >= low and rows.max() <= high)


def _check_shapes(surface: Surface) -> None:
    is_valid = (
        surface.vertices.ndim == surface.faces.ndim == surface.coords.ndim == surface.attributes.ndim == 2
        and surface.vertices.shape[1] == surface.faces.shape[1] == surface.coords.shape[1] == 3
        and surface.attributes.shape == (len(surface.coords), 6)
        and surface.resolution >= 1
    )
    if not is_valid:
        raise OutputInvalid("the engine's surface does not have the arrays that a surface must have")


def orient_faces(vertices: NDArray[Any], faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Make the winding of a mesh consistent and outward; int32 [faces, 3].

    Needed for surfaces that were not remeshed. Faces that share an edge with no third face get the same orientation.
    Where that is impossible (a Möbius strip), the contradiction ends up at sharp edges: orientation spreads along the
    flattest edges first, as Hoppe et al. (Surface Reconstruction from Unorganized Points, 1992) orient tangent planes.
    Each connected component is then flipped, if necessary, to enclose a positive volume as seen from the mean of all
    vertices.
    """
    cross = _cross_products(vertices, faces)
    first, second, agrees = _spanning_forest(faces, cross)
    count = len(faces)
    # Two nodes per face: node i keeps its winding, node i + count flips it. Edges connect the choices that agree, so
    # that each component of the mesh becomes two components of this graph, one the mirror of the other.
    left = np.concatenate((first, first + count))
    right = np.concatenate((np.where(agrees, second, second + count), np.where(agrees, second + count, second)))
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(2 * count, 2 * count))
    _, labels = connected_components(graph, directed=False)
    is_flipped = labels[:count] > labels[count:]
    component = np.minimum(labels[:count], labels[count:])
    # The signed volumes of the tetrahedra between each face and the centre, summed over a component.
    centre = vertices[faces].mean(axis=(0, 1), dtype=np.float64)
    volumes = np.einsum("ij,ij->i", vertices[faces[:, 0]] - centre, cross) * np.where(is_flipped, -1, 1)
    is_inside_out = np.bincount(component, volumes)[component] < 0
    flips = is_flipped != is_inside_out
    return np.where(flips[:, None], faces[:, [0, 2, 1]], faces)


def _cross_products(vertices: NDArray[Any], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the faces' normals, as long as twice their areas; float64 [faces, 3]."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.cross(b - a, c - a)


def _spanning_forest(
    faces: NDArray[np.int32], cross: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return a spanning forest of the face graph along its flattest edges: face pairs, and whether windings agree."""
    first, second, agrees = _adjacent_faces(faces)
    normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-300)
    flatness = np.abs(np.einsum("ij,ij->i", normals[first], normals[second]))
    order = np.argsort(-flatness, kind="stable")
    first, second, agrees = first[order], second[order], agrees[order]
    # Ranks as weights: unique, and never zero, which a sparse matrix would drop.
    ranks = np.arange(1, len(first) + 1, dtype=np.float64)
    forest = minimum_spanning_tree(coo_array((ranks, (first, second)), shape=(len(faces), len(faces))).tocsr())
    kept = forest.data.astype(np.int64) - 1
    return first[kept], second[kept], agrees[kept]


def _adjacent_faces(
    faces: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs of faces that share an edge with no third one, each pair once, and whether their windings agree."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel().astype(np.int64)
    keys = np.minimum(start, end) * (int(faces.max()) + 1) + np.maximum(start, end)
    order = np.argsort(keys, kind="stable")
    begins = np.flatnonzero(np.diff(keys[order], prepend=-1))
    # Half-edges with equal keys are neighbours in the order; a run of exactly two is a manifold edge.
    pair = begins[np.diff(begins, append=len(order)) == 2]
    left, right = order[pair], order[pair + 1]
    # Windings agree where the two faces pass the edge in opposite directions.
    agrees = (start[left] < end[left]) != (start[right] < end[right])
    first, second = left // 3, right // 3
    _, once = np.unique(first * len(faces) + second, return_index=True)
    return first[once], second[once], agrees[once]
