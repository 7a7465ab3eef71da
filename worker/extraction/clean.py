"""Take out of a surface what no later phase could stand."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EmptySurface, OutputInvalid
from worker.engine import Surface

REACH_M = 4.0  # the grid spans one metre; what lies farther out than this is no part of an object
FLAT = 1e-12  # area, relative to the longest side squared, below which a face has no direction


def clean(surface: Surface) -> Surface:
    """The surface without vertices that are not finite or far out of range, and without faces on them or with no area.

    Voxels outside the grid, or with attributes that are not finite, go too; attributes are clipped to [0, 1].

    Raises:
        EmptySurface: no face or no voxel is left.
        OutputInvalid: the arrays do not fit the description of a Surface.
    """
    _check_shapes(surface)
    faces, vertices = _faces(surface), surface.vertices
    if len(faces) == 0:
        raise EmptySurface("the surface has no face that can be used")
    used, renamed = np.unique(faces, return_inverse=True)
    inside = ((surface.coords >= 0) & (surface.coords < surface.resolution)).all(axis=1)
    inside &= np.isfinite(surface.attributes).all(axis=1)
    if not inside.any():
        raise EmptySurface("the surface has no voxel that can be used")
    return Surface(
        vertices=np.ascontiguousarray(vertices[used], dtype=np.float32),
        faces=renamed.reshape(-1, 3).astype(np.int32),
        coords=np.ascontiguousarray(surface.coords[inside], dtype=np.int32),
        attributes=np.clip(surface.attributes[inside], 0, 1).astype(np.float32),
        resolution=surface.resolution,
    )


def directed(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.bool_]:
    """Which faces have an area, and so a normal; bool [faces]."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    double_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    longest = np.maximum.reduce([((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a))])
    result: NDArray[np.bool_] = double_area > FLAT * np.maximum(longest, 1e-12)
    return result


def _faces(surface: Surface) -> NDArray[np.int32]:
    """Faces that name existing, sane vertices and have an area."""
    vertices, faces = surface.vertices, surface.faces
    faces = faces[((faces >= 0) & (faces < len(vertices))).all(axis=1)]
    with np.errstate(invalid="ignore"):
        sane: NDArray[np.bool_] = np.all(np.abs(vertices) <= REACH_M, axis=1)
    faces = faces[sane[faces].all(axis=1)]
    return faces[directed(vertices, faces)]


def _check_shapes(surface: Surface) -> None:
    described = (
        surface.vertices.ndim == surface.faces.ndim == surface.coords.ndim == surface.attributes.ndim == 2
        and surface.vertices.shape[1] == surface.faces.shape[1] == surface.coords.shape[1] == 3
        and surface.attributes.shape == (len(surface.coords), 6)
        and surface.resolution >= 1
    )
    if not described:
        raise OutputInvalid("the engine's surface does not have the arrays that a surface must have")
