"""Export a surface to all requested files and check them; compile the kernels ahead of the first job."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.domain.job import Check
from shared.domain.parameters import ExportParameters, Format, Target
from shared.errors import FormatUnavailable
from worker.engine import Surface
from worker.extraction.formats import meshopt, usdz
from worker.extraction.formats.glb_validation import check_limits
from worker.extraction.kernels.runtime import best_device, set_cache, translate_gpu_errors
from worker.extraction.model.asset import Asset, Provenance
from worker.extraction.pipeline import extract
from worker.extraction.render.poster import COARSE, render_pixels
from worker.extraction.size_budget import extract_to_fit

GRID = 16  # cells along the side of the warm-up's surface


@dataclass(frozen=True, slots=True)
class ExportedAsset:
    """An asset, its files in other formats by name, and the checks of the finished files."""

    asset: Asset
    other_formats: dict[Format, bytes] = field(repr=False)
    checks: tuple[Check, ...]


def require_writers(parameters: ExportParameters) -> None:
    """Raise FormatUnavailable if this worker cannot write a requested format, before anything is computed."""
    for name, is_available in (("usdz", usdz.is_available), ("meshopt", meshopt.is_available)):
        if name in parameters.formats and not is_available():
            raise FormatUnavailable(f"this worker cannot write {name}", pointer="/formats")


@translate_gpu_errors()
def export(
    surface: Surface,
    parameters: ExportParameters,
    target: Target,
    *,
    provenance: Provenance,
    progress: Callable[[float], None],
    device: str = "cpu",
) -> ExportedAsset:
    """Export the GLB within its limits, convert it to the other requested formats, and check the files.

    Raises:
        AssetTooLarge, FormatUnavailable, EmptySurface, OutputInvalid: as for `extract_to_fit`, `usdz.write` and
            `meshopt.pack`.
        GpuOutOfMemory: the device has too little free memory.
    """
    asset = extract_to_fit(surface, parameters, target, provenance=provenance, progress=progress, device=device)
    checks = [*check_limits(asset.glb, target, parameters.max_bytes), *asset.checks]
    other_formats: dict[Format, bytes] = {}
    if "usdz" in parameters.formats:
        other_formats["usdz"] = usdz.write(asset, provenance)
        checks.append(Check(name="usdz_errors", limit=0, measured=0, passed=True))  # `usdz.write` raises otherwise
    if "meshopt" in parameters.formats:
        other_formats["meshopt"] = meshopt.pack(asset.glb)
    return ExportedAsset(asset, other_formats, tuple(checks))


def warm_up(cache: Path) -> None:
    """Compile all kernels into `cache`, by exporting and rendering a small block; with a warm cache this takes 1 s.

    Uses the GPU if there is one, as jobs do; posters are always rendered on the CPU.
    """
    set_cache(cache)
    parameters = ExportParameters(decimation_target=1_000, texture_size=512)
    provenance = Provenance(seed=0, generator="warm-up", custom_id=None, engine="none")
    asset = extract(_make_block(), parameters, provenance=provenance, progress=lambda _: None, device=best_device())
    render_pixels(asset, side_px=8 * COARSE)


def _make_block() -> Surface:
    """Return a grey cube, half as wide as the grid."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32) / np.float32(4)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([half for a, b, c, d in sides for half in ((a, b, c), (a, c, d))], np.int32)
    cells = np.stack(np.meshgrid(*[np.arange(GRID)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    grey = np.tile(np.array([0.5, 0.5, 0.5, 0.0, 0.8, 1.0], np.float32), (len(cells), 1))
    return Surface(corners, faces, cells, grey, GRID)
