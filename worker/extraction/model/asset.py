"""The asset that extraction returns, its parts, and the scaling of a mesh to real dimensions."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Check, Degradation
from shared.domain.parameters import Dimensions

# Called with the completed part of a phase, 0-1, about once a second. What it raises (a cancel) passes through.
ProgressCallback = Callable[[float], None]

MAX_STRETCH = 0.1  # largest deviation of the requested sides from the model's proportions that passes the check
FLAT_M = 1e-6  # a shorter side has no usable scale


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin that a file states in its XMP packet.

    seed: of the sampler. generator: name and version of this service. custom_id: the caller's name for the object
    (a SKU). engine: the engine that computed the surface.
    """

    seed: int
    generator: str
    custom_id: str | None
    engine: str


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One encoded texture."""

    body: bytes
    mime_type: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh with the coordinates of the file: metres, Y up, its lowest point at y = 0, counter-clockwise faces.

    positions, normals: float32 [vertices, 3]. uv: float32 [vertices, 2], v down. faces: int32 [faces, 3].
    origin: float64 [3], this mesh's origin in the surface's object space, before any scaling. is_open: some edge has
    only one face. utilisation: the part of the texture that charts cover, 0-1. charts: their number.
    """

    positions: NDArray[np.float32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    origin: NDArray[np.float64]
    is_open: bool
    utilisation: float
    charts: int


@dataclass(frozen=True, slots=True)
class Asset:
    """One textured GLB, and the data to render it or to write it in another format.

    timings: seconds by phase. texels: uint8 [rows, columns, 6]: red, green, blue (sRGB-encoded), metallic, roughness,
    alpha. alpha_mode: glTF's OPAQUE, MASK or BLEND. degradations: where it is less than the parameters ask for.
    checks: those that cannot be repeated from the file.
    """

    glb: bytes = field(repr=False)
    triangles: int
    vertices: int
    texture_px: int
    timings: dict[str, float]
    mesh: Mesh = field(repr=False)
    texels: NDArray[np.uint8] = field(repr=False)
    alpha_mode: str
    base_colour: EncodedImage = field(repr=False)
    metallic_roughness: EncodedImage = field(repr=False)
    degradations: tuple[Degradation, ...] = ()
    checks: tuple[Check, ...] = ()


def scale_to_dimensions(mesh: Mesh, dimensions: Dimensions) -> Mesh:
    """Scale a mesh to the requested dimensions; `Dimensions` explains `uniform` and `exact`.

    With `exact`, a side that is not given is scaled by the geometric mean of the other factors.
    """
    factors, known = _scale_factors(mesh, dimensions)
    if not known.any():
        return mesh
    if dimensions.fit == "exact":
        scale = np.where(known, factors, np.exp(np.log(factors[known]).mean()))
    else:
        largest = max(np.flatnonzero(known), key=lambda axis: dimensions.sides[axis] or 0.0)
        scale = np.full(3, factors[largest])
    normals = mesh.normals / scale  # normals are transformed by the inverse transpose
    return replace(
        mesh,
        positions=(mesh.positions * scale).astype(np.float32),
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
    )


def check_stretch(mesh: Mesh, dimensions: Dimensions) -> Check | None:
    """Compare the requested sides with the proportions of a mesh that is not scaled yet; None for fewer than two sides.

    The measured value is the ratio of the largest to the smallest scale factor, minus 1.
    """
    factors, known = _scale_factors(mesh, dimensions)
    if np.count_nonzero(known) < 2:
        return None
    stretch = float(factors[known].max() / factors[known].min() - 1)
    return Check(name="max_stretch", limit=MAX_STRETCH, measured=round(stretch, 4), passed=stretch <= MAX_STRETCH)


def measure_sides_m(mesh: Mesh) -> tuple[float, float, float]:
    """Return width, height and depth of the bounding box in metres, rounded to 0.1 mm."""
    width, height, depth = (round(float(side), 4) for side in np.ptp(mesh.positions, axis=0))
    return width, height, depth


def _scale_factors(mesh: Mesh, dimensions: Dimensions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the factor of each axis, and whether it is known; float64 [3], bool [3]."""
    requested_m = np.array([side or 0.0 for side in dimensions.sides])
    sides_m = np.ptp(mesh.positions.astype(np.float64), axis=0)
    known = (requested_m > 0) & (sides_m > FLAT_M)
    return np.where(known, requested_m / np.maximum(sides_m, FLAT_M), 1.0), known
