"""Take out of a surface what no later phase could stand."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EmptySurface, OutputInvalid
from worker.engine import Surface
from worker.extraction.mesh.compaction import compact_indices
from worker.extraction.mesh.face_geometry import non_degenerate

REACH_M = 4.0  # the grid spans one metre; what lies farther out than this is no part of an object


def sanitize(surface: Surface, device: str = "cpu") -> Surface:
    """The surface without vertices that are not finite or far out of range, and without faces on them or with no area.

    Voxels outside the grid, or with attributes that are not finite, go too; attributes are clipped to [0, 1].

    Raises:
        EmptySurface: no face or no voxel is left.
        OutputInvalid: the arrays do not fit the description of a Surface.
    """
    _check_shapes(surface)
    faces, vertices = _faces(surface, device), surface.vertices
    if len(faces) == 0:
        raise EmptySurface("the surface has no face that can be used")
    used, faces = compact_indices(faces, len(vertices))
    coords, attributes = _voxels(surface)
    if len(coords) == 0:
        raise EmptySurface("the surface has no voxel that can be used")
    return Surface(
        vertices=np.ascontiguousarray(vertices[used], dtype=np.float32),
        faces=faces,
        coords=np.ascontiguousarray(coords, dtype=np.int32),
        attributes=np.clip(attributes, 0, 1).astype(np.float32),
        resolution=surface.resolution,
    )


def _faces(surface: Surface, device: str) -> NDArray[np.int32]:
    """Faces that name existing, sane vertices and have an area.

    Nearly every surface is sound, and one look at all numbers says so sooner than one at each row.
    """
    vertices, faces = surface.vertices, surface.faces
    if not _within(faces, 0, len(vertices) - 1):
        faces = faces[((faces >= 0) & (faces < len(vertices))).all(axis=1)]
    if not _within(vertices, -REACH_M, REACH_M):
        with np.errstate(invalid="ignore"):
            sane: NDArray[np.bool_] = np.all(np.abs(vertices) <= REACH_M, axis=1)
        faces = faces[sane[faces].all(axis=1)]
    has_direction = non_degenerate(vertices, faces, device)
    return faces if has_direction.all() else faces[has_direction]


def _voxels(surface: Surface) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates and attributes of the voxels inside the grid that have numbers."""
    coords, attributes = surface.coords, surface.attributes
    if _within(coords, 0, surface.resolution - 1) and np.isfinite(attributes).all():
        return coords, attributes
    inside = ((coords >= 0) & (coords < surface.resolution)).all(axis=1) & np.isfinite(attributes).all(axis=1)
    return coords[inside], attributes[inside]


def _within(rows: NDArray[Any], low: float, high: float) -> bool:
    """Whether all numbers lie between two; never where one is not a number."""
    return rows.size == 0 or bool(rows.min() >= low and rows.max() <= high)


def _check_shapes(surface: Surface) -> None:
    described = (
        surface.vertices.ndim == surface.faces.ndim == surface.coords.ndim == surface.attributes.ndim == 2
        and surface.vertices.shape[1] == surface.faces.shape[1] == surface.coords.shape[1] == 3
        and surface.attributes.shape == (len(surface.coords), 6)
        and surface.resolution >= 1
    )
    if not described:
        raise OutputInvalid("the engine's surface does not have the arrays that a surface must have")
