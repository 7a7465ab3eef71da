"""Small surfaces, each extracted once for all tests that look at the result."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench.geometry.surfaces import knot, noisy, parts, sheet
from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction import Asset, Provenance, extract

LABELS = Provenance(seed=7, generator="trellis2-modal 0.1.0", custom_id="SKU-1", engine="relief")
TARGET = 4_000
SURFACES: dict[str, Callable[[], Surface]] = {
    "knot": lambda: knot(200, 60, 128),
    "sheet": lambda: sheet(60, 128),
    "noisy": lambda: noisy(150, 40, 128),
    "parts": lambda: parts(40, 10, 128),
}

Made = Callable[..., Asset]


def bilinear(count: int, size: int) -> np.ndarray:
    """How much of each of so many coarse texels a texel `size` times as fine reads, on one axis; [fine, coarse]."""
    fine = np.arange(count * size)
    place = (fine + 0.5) / size - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((len(fine), count))
    np.add.at(weights, (fine, first.clip(0)), 1 - (place - first))
    np.add.at(weights, (fine, (first + 1).clip(max=count - 1)), place - first)
    return weights


@pytest.fixture(scope="session")
def surfaces() -> dict[str, Surface]:
    """The surfaces by name."""
    return {name: make() for name, make in SURFACES.items()}


@pytest.fixture(scope="session")
def made(surfaces: dict[str, Surface]) -> Made:
    """Extracts a named surface with options, and remembers."""
    kept: dict[str, Asset] = {}

    def make(name: str, alpha: float = 1.0, **options: object) -> Asset:
        key = repr((name, alpha, sorted(options.items())))
        if key not in kept:
            parameters = ExportParameters.model_validate({"decimation_target": TARGET, "texture_size": 512, **options})
            surface = with_alpha(surfaces[name], alpha) if alpha < 1 else surfaces[name]
            kept[key] = extract(surface, parameters, provenance=LABELS, progress=lambda _: None)
        return kept[key]

    return make


# What makes a surface of which nothing can be used, as changes to `triangle`.
UNUSABLE: dict[str, dict[str, np.ndarray]] = {
    "no face": {"faces": np.zeros((0, 3), np.int32)},
    "nan": {"vertices": np.full((3, 3), np.nan, np.float32)},
    "far": {"vertices": np.full((3, 3), 1e30, np.float32)},
    "flat": {"vertices": np.zeros((3, 3), np.float32)},
    "index too high": {"faces": np.array([[0, 1, 7]], np.int32)},
    "negative index": {"faces": np.array([[0, -1, 2]], np.int32)},
    "no voxel": {"coords": np.zeros((0, 3), np.int32), "attributes": np.zeros((0, 6), np.float32)},
    "voxel outside": {"coords": np.array([[99, 0, 0]], np.int32), "attributes": np.ones((1, 6), np.float32)},
    "nan voxel": {"coords": np.array([[1, 1, 1]], np.int32), "attributes": np.full((1, 6), np.nan, np.float32)},
}


def with_alpha(surface: Surface, alpha: float) -> Surface:
    """The surface with its upper half as transparent as that."""
    attributes = surface.attributes.copy()
    attributes[surface.coords[:, 1] > surface.resolution // 2, 5] = alpha
    return replace(surface, attributes=attributes)


def triangle() -> Surface:
    """One triangle in the middle of a grid of 16 cells, in one colour."""
    cells = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    return Surface(
        vertices=np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0, 0.3, 0]], np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        coords=cells,
        attributes=np.tile(np.array([0.8, 0.4, 0.2, 0, 0.5, 1], np.float32), (len(cells), 1)),
        resolution=16,
    )
