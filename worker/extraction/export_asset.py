"""Surface -> every file that was asked for, and what they were held to."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.domain.job import Check
from shared.domain.parameters import ExportParameters, Format, Target
from shared.errors import FormatUnavailable
from worker.engine import Surface
from worker.extraction.formats import meshopt, usdz
from worker.extraction.formats.limit_checks import check_limits
from worker.extraction.kernels.runtime import translate_gpu_errors
from worker.extraction.model.asset import Asset, Provenance
from worker.extraction.size_budget import extract_to_fit


@dataclass(frozen=True, slots=True)
class ExportedAsset:
    """An asset, its other formats by name, and the checks of the finished files."""

    asset: Asset
    other_formats: dict[Format, bytes] = field(repr=False)
    checks: tuple[Check, ...]


def require_writers(parameters: ExportParameters) -> None:
    """Refuse what this worker cannot write, before anything is computed for it. Raises FormatUnavailable."""
    for wanted, is_available in (("usdz", usdz.is_available), ("meshopt", meshopt.is_available)):
        if wanted in parameters.formats and not is_available():
            raise FormatUnavailable(f"this worker cannot write {wanted}", pointer="/formats")


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
    """Make the GLB within its bounds, the other formats of it, and check them.

    Raises:
        AssetTooLarge, FormatUnavailable, EmptySurface, OutputInvalid: as `extract_to_fit`, `usdz.write` and
            `meshopt.pack` say.
        GpuOutOfMemory: the device has no room for it.
    """
    asset = extract_to_fit(surface, parameters, target, provenance=provenance, progress=progress, device=device)
    checks = [*check_limits(asset.glb, target, parameters.max_bytes), *asset.checks]
    others: dict[Format, bytes] = {}
    if "usdz" in parameters.formats:
        others["usdz"] = usdz.write(asset, provenance)
        checks.append(Check(name="usdz_errors", limit=0, measured=0, passed=True))  # or it would have raised
    if "meshopt" in parameters.formats:
        others["meshopt"] = meshopt.pack(asset.glb)
    return ExportedAsset(asset, others, tuple(checks))
