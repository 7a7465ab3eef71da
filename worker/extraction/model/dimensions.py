"""Gives a mesh the object's real dimensions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Check
from shared.domain.parameters import Dimensions
from worker.extraction.model.asset import Mesh

MAX_STRETCH = 0.1  # by how much the sides given may differ from the model's proportions
FLAT_M = 1e-6  # a side shorter than this says nothing of the scale


def scale_to_dimensions(mesh: Mesh, dimensions: Dimensions) -> Mesh:
    """The mesh as large as the dimensions say; see there for `uniform` and `exact`.

    Exactly, a side that is not given grows as the others do in the geometric mean.
    """
    factor, known = _factors(mesh, dimensions)
    if not known.any():
        return mesh
    if dimensions.fit == "exact":
        by = np.where(known, factor, np.exp(np.log(factor[known]).mean()))
    else:
        largest = max(np.flatnonzero(known), key=lambda axis: dimensions.sides[axis] or 0.0)
        by = np.full(3, factor[largest])
    normals = mesh.normals / by
    return replace(
        mesh,
        positions=(mesh.positions * by).astype(np.float32),
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
    )


def check_stretch(mesh: Mesh, dimensions: Dimensions) -> Check | None:
    """How far the sides given are from the proportions of a mesh that is not scaled yet; None where one says nothing.

    Measured is by how much the most stretched of them is stretched beyond the least stretched one.
    """
    factor, known = _factors(mesh, dimensions)
    if np.count_nonzero(known) < 2:
        return None
    stretch = float(factor[known].max() / factor[known].min() - 1)
    return Check(name="max_stretch", limit=MAX_STRETCH, measured=round(stretch, 4), passed=stretch <= MAX_STRETCH)


def measure_sides_m(mesh: Mesh) -> tuple[float, float, float]:
    """Width, height and depth of the box around a mesh, to the tenth of a millimetre."""
    width, height, depth = (round(float(side), 4) for side in np.ptp(mesh.positions, axis=0))
    return width, height, depth


def _factors(mesh: Mesh, dimensions: Dimensions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """By how much each axis would grow, and whether that is known; float64 [3], bool [3]."""
    wanted = np.array([side or 0.0 for side in dimensions.sides])
    present = np.ptp(mesh.positions.astype(np.float64), axis=0)
    known = (wanted > 0) & (present > FLAT_M)
    return np.where(known, wanted / np.maximum(present, FLAT_M), 1.0), known
