"""Extract a GLB from a surface: clean, remesh, simplify, unwrap, bake, encode the textures, write."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from shared.domain.parameters import ExportParameters
from shared.errors import EmptySurface
from worker.engine import Surface
from worker.extraction.formats import glb
from worker.extraction.formats.glb_validation import validate
from worker.extraction.kernels.runtime import build_bvh, gpu_lock
from worker.extraction.mesh.geometry import non_degenerate, vertex_normals
from worker.extraction.mesh.repair import orient_faces, sanitize
from worker.extraction.mesh.topology import sort_keys
from worker.extraction.model.asset import Asset, Mesh, ProgressCallback, Provenance
from worker.extraction.remesh.remesh import remesh
from worker.extraction.simplify.cpu import simplify
from worker.extraction.simplify.gpu import decimate
from worker.extraction.texture import encoding
from worker.extraction.texture.attribute_volume import index_voxels
from worker.extraction.texture.bake import bake
from worker.extraction.texture.gutter import dilate, optimize_gutter_for_mips
from worker.extraction.uv.unwrap import UvLayout, unwrap

# The part of the work that is done when each phase begins, roughly.
PHASE_STARTS = {
    "clean": 0.0,
    "remesh": 0.02,
    "simplify": 0.4,
    "unwrap": 0.5,
    "bake": 0.67,
    "textures": 0.97,
    "write": 0.98,
}


def extract(
    surface: Surface,
    parameters: ExportParameters,
    *,
    provenance: Provenance,
    progress: Callable[[float], None],
    device: str = "cpu",
) -> Asset:
    """Extract a textured GLB. Equal arguments give equal bytes on the same device.

    Args:
        progress: is called with the completed part, 0-1; what it raises (a cancel) passes through.
        device: a Warp device, "cpu" or "cuda:0".

    Raises:
        EmptySurface: no face is left after cleaning or simplification.
        OutputInvalid: the surface is malformed, or the file failed its validation.
    """
    with gpu_lock(device, lambda: progress(0.0)):
        return _run_phases(surface, parameters, provenance, _PhaseTimer(progress), device)


def _run_phases(
    surface: Surface, parameters: ExportParameters, provenance: Provenance, timer: "_PhaseTimer", device: str
) -> Asset:
    with timer.phase("clean"):
        surface = sanitize(surface, device)
        original = build_bvh(surface.vertices, surface.faces, device)
    vertices: Any = surface.vertices  # numpy arrays, or Warp arrays on the device
    faces: Any = surface.faces
    if parameters.remesh:
        with timer.phase("remesh") as report:
            vertices, faces = _remesh(original, surface.resolution, parameters, report)
            if device != "cpu":
                wp.synchronize_stream(device)  # so that the timings are right
    with timer.phase("simplify") as report:
        vertices, faces = _simplify(vertices, faces, parameters, device, report)
        is_open = _is_open(faces, device)
        faces = faces[non_degenerate(vertices, faces, device)]
    if len(faces) == 0:
        raise EmptySurface("nothing is left of the surface once it is simplified")
    if not parameters.remesh:  # remeshing orients faces; a decoded surface's winding is arbitrary
        faces = orient_faces(vertices, faces)
    with timer.phase("unwrap") as report:
        layout = unwrap(vertices, faces, parameters.texture_size, device, report)
    with timer.phase("bake") as report:
        volume = index_voxels(surface.coords, surface.attributes, surface.resolution, device)
        texels = optimize_gutter_for_mips(
            dilate(bake(vertices, layout, original, volume, parameters.texture_size, report))
        ).numpy()
        baked = texels[..., 6] > 0
        if not baked.any():  # no voxel is near the surface: the mean is better than black
            texels[..., :6] = np.round(surface.attributes.mean(axis=0) * 255)
    with timer.phase("textures"):
        mode = encoding.alpha_mode(texels, baked)
        base_colour, metallic_roughness = encoding.encode_textures(texels, mode, parameters.texture_format)
    with timer.phase("write"):
        mesh = _build_mesh(vertices, faces, layout, device, is_open=is_open)
        body = glb.write(mesh, base_colour, metallic_roughness, mode, provenance)
        validate(body)
    timer.end()
    return Asset(
        glb=body,
        triangles=len(mesh.faces),
        vertices=len(mesh.positions),
        texture_px=parameters.texture_size,
        timings=timer.timings,
        mesh=mesh,
        texels=texels[..., :6],
        alpha_mode=mode,
        base_colour=base_colour,
        metallic_roughness=metallic_roughness,
    )


class _PhaseTimer:
    """Reports the progress of the phases, and measures how long each takes in seconds."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self._progress = progress
        self.timings: dict[str, float] = {}

    def end(self) -> None:
        """Report that all phases are complete."""
        self._progress(1.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[ProgressCallback]:
        """Time a phase; yields the callback that reports the completed part of it."""
        begin = PHASE_STARTS[name]
        end = min((start for start in PHASE_STARTS.values() if start > begin), default=1.0)

        def report(fraction: float) -> None:
            self._progress(begin + fraction * (end - begin))

        report(0)
        start_s = time.perf_counter()
        yield report
        self.timings[name] = time.perf_counter() - start_s


def _remesh(
    original: wp.Mesh, resolution: int, parameters: ExportParameters, report: ProgressCallback
) -> tuple[wp.array, wp.array]:
    return remesh(
        original,
        target_faces=parameters.decimation_target,
        finest_cell_m=1 / resolution,
        band=parameters.remesh_band,
        project=parameters.remesh_project,
        keep_hidden=parameters.keep_hidden,
        step=report,
    )


def _simplify(
    vertices: Any, faces: Any, parameters: ExportParameters, device: str, report: ProgressCallback
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Simplify to the target: on a GPU by rounds of parallel collapses first, then by the queue of edges."""
    target = parameters.decimation_target
    if not parameters.remesh:
        return simplify(vertices, faces, target, report)
    if device == "cpu":
        return simplify(vertices.numpy(), faces.numpy(), target, report)
    vertices, faces = decimate(vertices, faces, target, device, lambda part: report(part / 2))
    return simplify(vertices, faces, target, lambda part: report((1 + part) / 2))


def _build_mesh(
    vertices: NDArray[Any], faces: NDArray[np.int32], layout: UvLayout, device: str, *, is_open: bool
) -> Mesh:
    """Move the origin to the middle of the bounding box's lowest side, and compute the normals."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    floor = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2], dtype=np.float64)
    return Mesh(
        positions=(vertices[layout.source] - floor).astype(np.float32),
        normals=vertex_normals(vertices, faces, layout.faces, device),
        uv=layout.uv,
        faces=layout.faces,
        origin=floor,
        is_open=is_open,
        utilisation=layout.utilisation,
        charts=layout.charts,
    )


def _is_open(faces: NDArray[np.int32], device: str) -> bool:
    """Return whether some edge has only one face."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel()
    keys, _ = sort_keys(np.minimum(start, end) * (int(faces.max()) + 1) + np.maximum(start, end), device)
    changes = np.concatenate([[True], keys[1:] != keys[:-1], [True]])
    return bool((changes[1:] & changes[:-1]).any())
