"""The whole of extraction on a GPU; skipped where Warp finds none."""

import pytest

from bench.glb_reading import read
from bench.quality import Quality, measure
from bench.surfaces import colours, knot
from shared.contract import ExportParameters
from tests.unit.extraction.conftest import LABELS
from worker.extraction import Asset, extract
from worker.extraction.kernels import best_device

pytestmark = pytest.mark.skipif(best_device() == "cpu", reason="no GPU here")
PARAMETERS = ExportParameters(decimation_target=20_000, texture_size=1024)
SURFACE = knot(400, 120, 256)


def extracted(device: str) -> Asset:
    """The knot, on a device."""
    return extract(SURFACE, PARAMETERS, labels=LABELS, progress=lambda _: None, device=device)


def quality(asset: Asset) -> Quality:
    """Measured on the file."""
    return measure(read(asset.glb), SURFACE, origin=asset.mesh.origin, truth=colours, samples=50_000)


def test_gpu_is_as_good_as_the_cpu() -> None:
    """As near, as true in colour, as well packed; closed, and no texel for two faces."""
    on_gpu, on_cpu = quality(extracted("cuda:0")), quality(extracted("cpu"))
    assert (on_gpu.overlap, on_gpu.boundary) == (0, 0)
    assert on_gpu.off_mean < 1.2 * on_cpu.off_mean
    assert on_gpu.missed_mean < 1.2 * on_cpu.missed_mean
    assert on_gpu.colour_db > on_cpu.colour_db - 0.5
    assert on_gpu.coverage > on_cpu.coverage - 0.03


def test_gpu_repeats_itself() -> None:
    """To the last byte."""
    assert extracted("cuda:0").glb == extracted("cuda:0").glb
