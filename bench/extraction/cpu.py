"""python -m bench.extraction.cpu measures surface to GLB on the CPU against a simple peer.

Both run warm in this process, alternating, on the same surface. The pause is the longest time that another
thread of the process, such as one that answers HTTP requests, waited for the interpreter.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fast_simplification
import numpy as np
import xatlas
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from bench.geometry.glb_reader import read_glb
from bench.geometry.mesh_quality import measure
from bench.geometry.surfaces import colours, knot
from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction import Provenance, extract
from worker.extraction.formats import glb
from worker.extraction.mesh.geometry import vertex_normals
from worker.extraction.model.asset import Mesh
from worker.extraction.render import poster
from worker.extraction.texture import encoding

LABELS = Provenance(seed=1, generator="bench", custom_id=None, engine="bench")
GOALS_S = {(10_000, 1024): 6.0, (100_000, 2048): 18.0}
SAMPLES = 200_000


def main() -> None:
    """Print a block for each preset: seconds by phase, ours and the peer's, and the quality of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--largest", action="store_true", help="also 1,000,000 triangles and 4096 px, ours only")
    arguments = parser.parse_args()
    surface = knot()
    extract(knot(100, 40, 64), ExportParameters(texture_size=512), provenance=LABELS, progress=lambda _: None)
    print(f"{len(surface.faces):,} faces, {len(surface.coords):,} voxels, median of {arguments.repeats}")
    for (triangles, texture_px), goal_s in GOALS_S.items():
        print(f"\n{triangles:,} triangles, {texture_px} px, {goal_s:.0f} s at most")
        ours, theirs = [], []
        for _ in range(arguments.repeats):
            ours.append(_run_ours(surface, triangles, texture_px))
            theirs.append(_run_peer(surface, triangles, texture_px))
        totals = [_print_runs(name, runs) for name, runs in (("ours", ours), ("peer", theirs))]
        print(f"ratio  {totals[1] / totals[0]:.1f}")
    if arguments.largest:
        print("\n1,000,000 triangles, 4096 px")
        _print_runs("ours", [_run_ours(surface, 1_000_000, 4096)])


class _Run:
    """One run: seconds by phase, the longest pause of another thread, and a function that describes the file."""

    def __init__(self, timings: dict[str, float], pause_s: float, judge: Callable[[], str]) -> None:
        self.timings = timings
        self.pause_s = pause_s
        self.describe = judge


def _run_ours(surface: Surface, triangles: int, texture_px: int) -> _Run:
    parameters = ExportParameters.model_validate({"decimation_target": triangles, "texture_size": texture_px})
    with _measure_pauses() as pauses:
        asset = extract(surface, parameters, provenance=LABELS, progress=lambda _: None)
        begun = time.perf_counter()
        poster.render_poster(asset)
        drawn_s = time.perf_counter() - begun
    timings = {**asset.timings, "(poster)": drawn_s}
    return _Run(timings, max(pauses), lambda: _describe_quality(asset.glb, surface, asset.mesh.origin))


def _run_peer(surface: Surface, triangles: int, texture_px: int) -> _Run:
    with _measure_pauses() as pauses:
        peer = Peer(surface, triangles, texture_px)
    return _Run(peer.timings, max(pauses), lambda: _describe_quality(peer.body, surface, np.zeros(3)))


def _print_runs(name: str, runs: list[_Run]) -> float:
    timings = {phase: statistics.median(run.timings[phase] for run in runs) for phase in runs[0].timings}
    total_s = sum(seconds for phase, seconds in timings.items() if phase[0] != "(")
    pause_s = statistics.median(run.pause_s for run in runs)
    print(f"{name}  {total_s:6.2f} s  " + "  ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items()))
    print(f"      pause {pause_s * 1000:.0f} ms, {runs[-1].describe()}")
    return total_s


def _describe_quality(body: bytes, surface: Surface, origin: np.ndarray) -> str:
    quality = measure(read_glb(body), surface, origin=origin, truth=colours, samples=SAMPLES)
    return (
        f"{len(body) / 1e6:.2f} MB, off {quality.off_mean * 1e3:.3f} mm, missed {quality.missed_mean * 1e3:.3f} mm, "
        f"colour {quality.colour_db:.1f} dB, at mip 1-4 {' / '.join(f'{each:.1f}' for each in quality.mip_db)}, "
        f"texture used {quality.coverage:.3f}, {quality.charts} charts, overlapping texels {quality.overlapping_texels}"
    )


@contextmanager
def _measure_pauses() -> Iterator[list[float]]:
    """Wake up every two milliseconds and record how late."""
    pauses: list[float] = []
    over = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not over.wait(0.002):
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield pauses
    finally:
        over.set()
        thread.join()


class Peer:
    """One run. timings: seconds by phase. body: the GLB."""

    def __init__(self, surface: Surface, triangles: int, texture_px: int) -> None:
        self.timings: dict[str, float] = {}
        with self._phase("simplify"):
            vertices, faces = fast_simplification.simplify(surface.vertices, surface.faces, target_count=triangles)
        with self._phase("unwrap"):
            source, corners, uv = xatlas.parametrize(vertices.astype(np.float32), faces.astype(np.uint32))
        place = vertices[source]
        corners = corners.astype(np.int32)
        with self._phase("bake"):
            texels, known = _bake(surface, place, corners, uv, texture_px)
            rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
            texels = texels[rows, columns]
        with self._phase("textures"):
            colour = encoding.encode_base_colour(texels, "OPAQUE", "auto")
            finish = encoding.encode_metallic_roughness(texels, "auto")
        with self._phase("write"):
            normal = vertex_normals(vertices, faces, corners)
            mesh = Mesh(place.astype(np.float32), normal, uv, corners, np.zeros(3), False, 0.0, 0)
            self.body = glb.write(mesh, colour, finish, "OPAQUE", Provenance(0, "peer", None, "peer"))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - begun


def _bake(
    surface: Surface, place: NDArray[np.float64], faces: NDArray[np.int32], uv: NDArray[np.float32], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Fill the texels under each face, one face after the other, then colour them all from the nearest voxel."""
    point = np.zeros((side, side, 3))
    known = np.zeros((side, side), dtype=bool)
    for (a, b, c), corner in zip(uv[faces].astype(np.float64) * side, place[faces], strict=True):
        low, high = np.floor(np.minimum(np.minimum(a, b), c)), np.ceil(np.maximum(np.maximum(a, b), c))
        x = np.arange(low[0], high[0]) + 0.5
        y = np.arange(low[1], high[1])[:, None] + 0.5
        double = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if double == 0:
            continue
        v = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / double
        w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / double
        row, column = np.nonzero((v >= 0) & (w >= 0) & (v + w <= 1))
        weight = np.stack([1 - v[row, column] - w[row, column], v[row, column], w[row, column]], axis=1)
        row, column = row + int(low[1]), column + int(low[0])
        point[row, column] = weight @ corner
        known[row, column] = True
    cells = cKDTree((surface.coords + 0.5) / surface.resolution - 0.5)
    _, nearest = cells.query(point[known])
    texels = np.zeros((side, side, 6), dtype=np.uint8)
    texels[known] = np.round(surface.attributes[nearest] * 255)
    return texels, known


if __name__ == "__main__":
    main()
