"""What extraction takes besides a surface, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Check, Degradation
from worker.extraction.texture.encoding import EncodedImage

# Called with the completed part of a phase, 0-1, about once a second. What it raises (a cancel) passes through.
ProgressCallback = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the file says of its origin, in its XMP packet.

    seed: of the sampler. generator: name and version of this service. custom_id: the caller's own name for the
    object (its SKU). engine: the engine that made the surface.
    """

    seed: int
    generator: str
    custom_id: str | None
    engine: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh as it stands in the file: Y up, metres, standing on y = 0, counter-clockwise faces.

    positions, normals: float32 [vertices, 3]. uv: float32 [vertices, 2], v down. faces: int32 [faces, 3].
    origin: float64 [3], where the surface's object space has this mesh's origin, before any scaling.
    is_open: some edge has one face only. utilisation: the part of the texture that the charts cover. charts: how many
    there are.
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
    """One textured GLB, and what drawing it or writing it anew takes.

    colour, finish: its textures, base colour and metallic-roughness. lowered: in which ways it is less than was asked.
    checks: what only its making can tell of it.
    texels: uint8 [rows, columns, 6]: red, green, blue (sRGB-encoded), metallic, roughness, alpha.
    alpha_mode: glTF's OPAQUE, MASK or BLEND. timings: seconds by phase.
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
