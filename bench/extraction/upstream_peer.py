"""TRELLIS.2's own extraction, `o_voxel.postprocess.to_glb`, timed by phase: the peer of `bench.extraction.gpu`.

It needs cumesh, flex_gemm, nvdiffrast and trimesh, but not the rest of the package.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.geometry.glb_reader import Model, read_glb
from worker.engine import Surface

LAYOUT = {
    "base_color": slice(0, 3),
    "metallic": slice(3, 4),
    "roughness": slice(4, 5),
    "alpha": slice(5, 6),
}
AABB = [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]


class UpstreamExtraction:
    """The real function from a checkout of TRELLIS.2, with a timer around each slow part."""

    def __init__(self, checkout: Path) -> None:
        """Load the one module that extracts.

        Raises:
            FileNotFoundError: there is no such module.
        """
        path = checkout / "o-voxel" / "o_voxel" / "postprocess.py"
        spec = importlib.util.spec_from_file_location("upstream_postprocess", path)
        if spec is None or spec.loader is None or not path.exists():
            raise FileNotFoundError(f"{checkout} is no checkout of TRELLIS.2")
        self._module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self._watch = _PhaseTimer()
        for owner, name, phase in self._parts():
            setattr(owner, name, self._watch.time_phase(phase, getattr(owner, name)))

    def _parts(self) -> list[tuple[Any, str, str]]:
        module = self._module
        mesh = module.cumesh.CuMesh
        return [
            (mesh, "init", "copy"),
            (mesh, "read", "copy"),
            (mesh, "fill_holes", "clean"),
            (module.cumesh, "cuBVH", "search tree"),
            (module.cumesh.remeshing, "remesh_narrow_band_dc", "remesh"),
            (mesh, "simplify", "simplify"),
            (mesh, "uv_unwrap", "unwrap"),
            (mesh, "compute_vertex_normals", "normals"),
            (module.dr, "rasterize", "bake"),
            (module.dr, "interpolate", "bake"),
            (module, "grid_sample_3d", "bake"),
            (module.cv2, "inpaint", "inpaint"),
        ]

    def extract(self, surface: Surface, triangles: int, texture_px: int) -> tuple[bytes, dict[str, float]]:
        """The GLB, its textures as WebP as upstream's example has them, and the seconds by phase."""
        mesh = [
            torch.from_numpy(np.ascontiguousarray(surface.vertices)).cuda(),
            torch.from_numpy(np.ascontiguousarray(surface.faces, dtype=np.int32)).cuda(),
        ]
        voxels = [torch.from_numpy(np.ascontiguousarray(each)).cuda() for each in (surface.attributes, surface.coords)]
        self._watch.timings.clear()
        begun = _now()
        model = self._module.to_glb(
            *mesh,
            *voxels,
            LAYOUT,
            AABB,
            voxel_size=1 / surface.resolution,
            decimation_target=triangles,
            texture_size=texture_px,
            remesh=True,
            remesh_band=1,
            remesh_project=0,
        )
        converted = _now()
        timings = {**self._watch.timings, "rest": converted - begun - sum(self._watch.timings.values())}
        body: bytes = model.export(file_type="glb", extension_webp=True)
        return body, {**timings, "textures and write": _now() - converted}


def read_upstream(body: bytes) -> Model:
    """The model with the axes of the surface that it came from: upstream turns y up into z up when it writes."""
    model = read_glb(body)
    return replace(model, positions=_rotate_y_up(model.positions), normals=_rotate_y_up(model.normals))


def _rotate_y_up(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([rows[:, 0], -rows[:, 2], rows[:, 1]], axis=1))


def _now() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


class _PhaseTimer:
    """Seconds by phase; timed calls inside a timed call count as part of it."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self._inside = False

    def time_phase(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return work(*args, **kwargs)
            begun = _now()
            self._inside = True
            try:
                return work(*args, **kwargs)
            finally:
                self._inside = False
                self.timings[phase] = self.timings.get(phase, 0.0) + _now() - begun

        return wrapped
