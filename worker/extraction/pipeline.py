"""Surface -> GLB: the phases of extraction, in order."""

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
from worker.extraction.kernels import runtime
from worker.extraction.kernels.runtime import gpu_lock
from worker.extraction.mesh.geometry import non_degenerate, vertex_normals
from worker.extraction.mesh.repair import orient_faces, sanitize
from worker.extraction.mesh.topology import sort_keys
from worker.extraction.model.asset import Asset, Mesh, ProgressCallback, Provenance
from worker.extraction.remesh.remesh import remesh
from worker.extraction.simplify.cpu import simplify
from worker.extraction.simplify.gpu import decimate
from worker.extraction.texture import encoding
from worker.extraction.texture.attribute_volume import AttributeVolume
from worker.extraction.texture.bake import bake
from worker.extraction.texture.gutter import dilate, optimize_gutter_for_mips
from worker.extraction.uv.unwrap import UvLayout, unwrap

# About where each phase begins, as a part of the whole.
BEGINS = {"clean": 0.0, "remesh": 0.02, "simplify": 0.4, "unwrap": 0.5, "bake": 0.67, "textures": 0.97, "write": 0.98}


def extract(
    surface: Surface,
    parameters: ExportParameters,
    *,
    provenance: Provenance,
    progress: Callable[[float], None],
    device: str = "cpu",
) -> Asset:
    """Turn a surface into a textured GLB. On the CPU, equal arguments give equal bytes.

    progress: called with 0-1 as the work goes on; what it raises (a cancel) passes through.
    device: a Warp device, "cpu" or "cuda:0".

    Raises:
        EmptySurface: nothing is left of the surface once it is cleaned.
        OutputInvalid: the surface is malformed, or the file did not pass its check.
    """
    with gpu_lock(device, lambda: progress(0.0)):
        return _extracted(surface, parameters, provenance, _Clock(progress), device)


def _extracted(
    surface: Surface, parameters: ExportParameters, labels: Provenance, clock: "_Clock", device: str
) -> Asset:
    with clock.phase("clean"):
        surface = sanitize(surface, device)
        original = runtime.build_bvh(surface.vertices, surface.faces, device)
    vertices: Any = surface.vertices  # as the phases hand them on: numpy's, or Warp's on the device
    faces: Any = surface.faces
    if parameters.remesh:
        with clock.phase("remesh") as step:
            vertices, faces = _remeshed(original, surface.resolution, parameters, step)
            if device != "cpu":
                wp.synchronize_stream(device)  # for the sake of the timings
    with clock.phase("simplify") as step:
        if parameters.remesh and device != "cpu":  # closed: what the GPU's simplifier asks for
            vertices, faces = decimate(vertices, faces, parameters.decimation_target, device, step)
        elif parameters.remesh:
            vertices, faces = vertices.numpy(), faces.numpy()
        vertices, faces = simplify(vertices, faces, parameters.decimation_target, lambda: step(0))
        is_open = _is_open(faces, device)
        faces = faces[non_degenerate(vertices, faces, device)]
    if len(faces) == 0:
        raise EmptySurface("nothing is left of the surface once it is simplified")
    if not parameters.remesh:  # which has outsides; a decoded surface's winding says nothing
        faces = orient_faces(vertices, faces)
    with clock.phase("unwrap") as step:
        layout = unwrap(vertices, faces, parameters.texture_size, device, step)
    with clock.phase("bake") as step:
        volume = AttributeVolume.from_voxels(surface.coords, surface.attributes, surface.resolution, device)
        texels = optimize_gutter_for_mips(
            dilate(bake(vertices, layout, original, volume, parameters.texture_size, step))
        ).numpy()
        baked = texels[..., 6] > 0
        if not baked.any():  # no voxel is anywhere near the surface: one colour is better than black
            texels[..., :6] = np.round(surface.attributes.mean(axis=0) * 255)
    with clock.phase("textures"):
        mode = encoding.alpha_mode(texels, baked)
        colour, finish = encoding.encode_textures(texels, mode, parameters.texture_format)
    with clock.phase("write"):
        mesh = _standing(vertices, faces, layout, device, is_open=is_open)
        body = glb.write(mesh, colour, finish, mode, labels)
        validate(body)
    clock.end()
    return Asset(
        glb=body,
        triangles=len(mesh.faces),
        vertices=len(mesh.positions),
        texture_px=parameters.texture_size,
        timings=clock.timings,
        mesh=mesh,
        texels=texels[..., :6],
        alpha_mode=mode,
        base_colour=colour,
        metallic_roughness=finish,
    )


class _Clock:
    """Reports where each phase stands and keeps how long it took."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self._progress = progress
        self.timings: dict[str, float] = {}

    def end(self) -> None:
        """Report the whole as done."""
        self._progress(1.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[ProgressCallback]:
        """Time a phase; inside, report by parts of it."""
        begin = BEGINS[name]
        end = min((other for other in BEGINS.values() if other > begin), default=1.0)

        def step(fraction: float) -> None:
            self._progress(begin + fraction * (end - begin))

        step(0)
        begun = time.perf_counter()
        yield step
        self.timings[name] = time.perf_counter() - begun


def _remeshed(
    original: wp.Mesh, resolution: int, parameters: ExportParameters, step: ProgressCallback
) -> tuple[wp.array, wp.array]:
    return remesh(
        original,
        target_faces=parameters.decimation_target,
        finest_cell_m=1 / resolution,
        band=parameters.remesh_band,
        project=parameters.remesh_project,
        keep_hidden=parameters.keep_hidden,
        step=step,
    )


def _standing(
    vertices: NDArray[Any], faces: NDArray[np.int32], layout: UvLayout, device: str, *, is_open: bool
) -> Mesh:
    """The mesh with its origin at the middle of the floor under it."""
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
    """Whether some edge has a face on one side only."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, axis=1).ravel()
    keys, _ = sort_keys(np.minimum(start, end) * (int(faces.max()) + 1) + np.maximum(start, end), device)
    changes = np.concatenate([[True], keys[1:] != keys[:-1], [True]])
    return bool((changes[1:] & changes[:-1]).any())
