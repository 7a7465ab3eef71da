"""Extraction on a GPU; skipped if Warp finds none."""

from dataclasses import replace

import numpy as np
import pytest
import warp as wp

from bench.geometry.glb_reader import read_glb
from bench.geometry.mesh_quality import Quality, measure
from bench.geometry.surfaces import colours, knot
from shared.domain.parameters import ExportParameters
from shared.errors import EmptySurface, OutputInvalid
from tests.unit.worker.extraction.conftest import LABELS, UNUSABLE, triangle
from tests.unit.worker.extraction.texture.test_gutter import charts
from worker.engine import Surface
from worker.extraction import Asset, extract
from worker.extraction.kernels.runtime import best_device
from worker.extraction.texture.gutter import dilate, optimize_gutter_for_mips
from worker.extraction.uv.patches import ChartLimits, Patches
from worker.extraction.uv.segmentation import cluster

pytestmark = pytest.mark.skipif(best_device() == "cpu", reason="no GPU here")
PARAMETERS = ExportParameters(decimation_target=20_000, texture_size=1024)
SURFACE = knot(400, 120, 256)


def extract_knot(device: str) -> Asset:
    """Extract the knot on a device."""
    return extract(SURFACE, PARAMETERS, provenance=LABELS, progress=lambda _: None, device=device)


def quality(asset: Asset) -> Quality:
    """Measure the file."""
    return measure(read_glb(asset.glb), SURFACE, origin=asset.mesh.origin, truth=colours, samples=50_000)


def test_gpu_is_as_good_as_the_cpu() -> None:
    """As close, as true in colour, as well packed; closed, and no texel for two faces."""
    on_gpu, on_cpu = quality(extract_knot("cuda:0")), quality(extract_knot("cpu"))
    assert (on_gpu.overlapping_texels, on_gpu.boundary_edges) == (0, 0)
    assert on_gpu.off_mean < 1.2 * on_cpu.off_mean
    assert on_gpu.missed_mean < 1.2 * on_cpu.missed_mean
    assert on_gpu.colour_db > on_cpu.colour_db - 0.5
    assert on_gpu.coverage > on_cpu.coverage - 0.03


def test_gpu_optimizes_the_gutter_as_the_cpu_does() -> None:
    """Texels differ by at most one code."""
    texels = {
        device: optimize_gutter_for_mips(dilate(wp.array(charts(), dtype=wp.uint8, device=device))).numpy()
        for device in ("cuda:0", "cpu")
    }
    assert np.abs(texels["cuda:0"].astype(int) - texels["cpu"]).max() <= 1


def test_gpu_clusters_as_the_cpu_does() -> None:
    """The same charts, but for faces on the boundary between nearly equal costs."""
    patches = Patches.from_faces(SURFACE.vertices, SURFACE.faces)
    area = patches.areas.sum()
    limits = ChartLimits(1.2, area / 8), ChartLimits(1.5, small_area=area / 5_000)
    on_gpu, on_cpu = (cluster(patches, *limits, device=device) for device in ("cuda:0", "cpu"))
    assert abs(int(on_gpu.max()) - int(on_cpu.max())) <= 0.02 * on_cpu.max()


def test_gpu_is_deterministic() -> None:
    """Equal bytes in two runs."""
    assert extract_knot("cuda:0").glb == extract_knot("cuda:0").glb


def extract_small(surface: Surface, **options: object) -> Asset:
    """Extract a surface on the GPU with the smallest options, and the given ones."""
    parameters = ExportParameters.model_validate({"decimation_target": 1_000, "texture_size": 512, **options})
    return extract(surface, parameters, provenance=LABELS, progress=lambda _: None, device="cuda:0")


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_gpu_refuses_an_empty_surface(change: dict[str, np.ndarray]) -> None:
    """And the next extraction works."""
    with pytest.raises(EmptySurface):
        extract_small(replace(triangle(), **change))
    assert extract_small(triangle()).triangles > 0


def test_gpu_refuses_malformed_arrays() -> None:
    """Attributes and cells must have the same length."""
    with pytest.raises(OutputInvalid):
        extract_small(replace(triangle(), attributes=np.ones((3, 6), np.float32)))


def test_gpu_removes_broken_parts() -> None:
    """Some vertices not finite, some far away, some faces flat: the rest becomes a valid file."""
    vertices, faces = SURFACE.vertices.copy(), SURFACE.faces.copy()
    vertices[10], vertices[500], vertices[900] = np.nan, np.inf, 1e20
    faces[::50, 1] = faces[::50, 0]
    assert extract_small(replace(SURFACE, vertices=vertices, faces=faces)).triangles > 500


@pytest.mark.parametrize("options", [{"remesh": False}, {"keep_hidden": True}, {"remesh_project": 1.0}])
def test_gpu_supports_every_option(options: dict[str, object]) -> None:
    """And reaches about the requested number of triangles."""
    assert 900 <= extract_small(SURFACE, **options).triangles <= 1_000
