"""python -m bench.extraction.formats measures the cost of size limits, meshopt and USDZ for one asset."""

import time
from collections.abc import Callable
from typing import TypeVar

from bench.geometry.surfaces import knot
from shared.domain.parameters import UNBOUND, ExportParameters
from worker.engine import Surface
from worker.extraction import Provenance, extract
from worker.extraction.formats import meshopt, usdz
from worker.extraction.size_budget import extract_to_fit

T = TypeVar("T")

LABELS = Provenance(seed=7, generator="bench", custom_id=None, engine="none")
WHOLE = ExportParameters(decimation_target=100_000, texture_size=2048)
SHARES = (0.8, 0.6, 0.4, 0.2)


def measure(work: Callable[[], T]) -> tuple[T, float]:
    """Return the result of `work` and its seconds."""
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


class ExtractionCounter:
    """A progress callback that counts extractions and records when the last one ended."""

    def __init__(self) -> None:
        self.count = 0
        self.ended_s = 0.0

    def __call__(self, fraction: float) -> None:
        """Record progress in [0, 1]."""
        self.count += fraction == 0
        self.ended_s = time.perf_counter()


def main() -> None:
    """Print a row for each size limit and format."""
    surface = knot()
    small = ExportParameters(decimation_target=1_000, texture_size=512)
    extract(knot(200, 60, 128), small, provenance=LABELS, progress=ExtractionCounter())  # compiles the kernels
    whole, whole_s = measure(lambda: extract(surface, WHOLE, provenance=LABELS, progress=ExtractionCounter()))
    print(f"{'':<16}{'s':>7}{'MB':>8}{'triangles':>11}{'px':>6}{'extractions':>13}{'fitting s':>11}  lowered")
    print(f"{'GLB as it comes':<16}{whole_s:>7.2f}{_mb(whole.glb)}{whole.triangles:>11,}{whole.texture_px:>6}{1:>13}")
    for share in SHARES:
        _print_fit(surface, int(share * len(whole.glb)))
    if usdz.is_available():
        _print_format("usdz", lambda: usdz.write(whole, LABELS))
    if meshopt.is_available():
        _print_format("meshopt", lambda: meshopt.pack(whole.glb))


def _print_fit(surface: Surface, most: int) -> None:
    runs = ExtractionCounter()
    bound = WHOLE.model_copy(update={"max_bytes": most})
    asset, seconds = measure(lambda: extract_to_fit(surface, bound, UNBOUND, provenance=LABELS, progress=runs))
    fitting_s = time.perf_counter() - runs.ended_s
    lowered = ", ".join(f"{degradation.name} {degradation.actual}" for degradation in asset.degradations)
    print(
        f"{f'within {most / 1e6:.2f} MB':<16}{seconds:>7.2f}{_mb(asset.glb)}{asset.triangles:>11,}"
        f"{asset.texture_px:>6}{runs.count:>13}{fitting_s:>11.2f}  {lowered}"
    )


def _print_format(name: str, make: Callable[[], bytes]) -> None:
    make()  # imports, and what the system caches
    body, seconds = measure(make)
    print(f"{name:<16}{seconds:>7.2f}{_mb(body)}")


def _mb(body: bytes) -> str:
    return f"{len(body) / 1e6:>8.2f}"


if __name__ == "__main__":
    main()
