"""python -m bench.extraction.gpu --upstream CHECKOUT compares surface to GLB on a GPU, ours and TRELLIS.2's own.

Both run in this process, alternating, on the same surface: a rippled torus knot of 5.28 million faces with 7.7 million
voxels at 1024^3, at the three sizes that TRELLIS.2's users ask for; or as --surfaces says also the same at 1536^3, and
a thin open sheet (see-through in parts), a noisy self-touching tube and many small parts, at 100,000 triangles. Seconds
by phase, the most memory held on the GPU and on the host, the file's size, and its quality. Without
--upstream only ours runs.
"""

import argparse
import gc
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import warp as wp

from bench.geometry.glb_reader import Model, read_glb
from bench.geometry.mesh_quality import Floats, measure
from bench.geometry.surfaces import colours, glaze, glazed_colours, knot, noisy, parts, sheet, thicken
from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction import Provenance, extract

LABELS = Provenance(seed=1, generator="bench", custom_id=None, engine="bench")
GOALS_S = {(1_000_000, 4096): 6.0, (100_000, 2048): 2.5, (10_000, 1024): 1.5}
SURFACES = ("knot", "finest", "sheet", "noisy", "parts")
SAMPLES = 1_000_000
MIB = 2**20
EVERY_MS = 20


@dataclass(frozen=True)
class Task:
    """One surface at one size. truth: what its material is at a place."""

    name: str
    surface: Surface
    triangles: int
    texture_px: int
    truth: Callable[[Floats], Floats] = colours


@dataclass
class PeakMemory:
    """Bytes. host: of this process, all that it holds. gpu: above what the GPU held before; 0 without a GPU."""

    host: int = 0
    gpu: int = 0


@dataclass(frozen=True)
class Run:
    """One extraction: the file, seconds by phase, the memory it took, and how to read the file back."""

    body: bytes
    timings: dict[str, float]
    peak: PeakMemory
    read_model: Callable[[], tuple[Model, Floats]]


def main() -> None:
    """Print a block for each surface and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--upstream", type=Path, help="a checkout of TRELLIS.2, to run its extraction too")
    parser.add_argument("--repeats", type=int, default=3, help="of ours; upstream's runs once")
    parser.add_argument("--small", action="store_true", help="a tenth of the surface, for a quick look")
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=["knot"], help="finest: the knot at 1536^3")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="points that quality is measured at")
    parser.add_argument("--keep", type=Path, help="a folder for the files")
    arguments = parser.parse_args()
    device = arguments.device
    begun = time.perf_counter()
    _run_ours(Task("", knot(100, 40, 64), 1_000, 512), device)
    print(f"{wp.get_device(device).name}, kernels ready in {time.perf_counter() - begun:.1f} s", flush=True)
    upstream = _load_upstream(arguments.upstream)
    for task in _build_tasks(arguments, device):
        goal = GOALS_S.get((task.triangles, task.texture_px)) if task.name == "knot" else None
        print(
            f"\n{task.name}, {len(task.surface.faces):,} faces, {len(task.surface.coords):,} voxels at "
            f"{task.surface.resolution}^3; {task.triangles:,} triangles, {task.texture_px} px"
            + (f", {goal} s at most" if goal else ""),
            flush=True,
        )
        sides = {"ours": [_run_ours(task, device) for _ in range(arguments.repeats)]}
        if upstream:
            sides["upstream"] = [_run_upstream(task, upstream)]
        for name, runs in sides.items():
            _print_runs(name, runs, task, device, arguments)


def _build_tasks(arguments: argparse.Namespace, device: str) -> Any:
    """Build tasks one at a time: a surface takes half a gigabyte."""
    names = arguments.surfaces
    if "knot" in names:
        large = thicken(knot() if arguments.small else knot(2400, 1100, 1024), device=device)
        for triangles, texture_px in GOALS_S:
            yield Task("knot", large, triangles, texture_px)
        del large
    if "finest" in names:
        yield Task("knot at 1536^3", thicken(knot(3600, 1650, 1536), device=device), 1_000_000, 4096)
    if "sheet" in names:
        yield Task("sheet", glaze(thicken(sheet(700), device=device)), 100_000, 2048, glazed_colours)
    if "noisy" in names:
        yield Task("noisy", thicken(noisy(1200, 320), device=device), 100_000, 2048)
    if "parts" in names:
        yield Task("parts", thicken(parts(), device=device), 100_000, 2048)


def _load_upstream(checkout: Path | None) -> Any:
    if checkout is None:
        return None
    from bench.extraction.upstream_peer import UpstreamExtraction

    upstream = UpstreamExtraction(checkout)
    upstream.extract(knot(200, 60, 128), 10_000, 512)  # what is compiled at first use
    return upstream


def _run_ours(task: Task, device: str) -> Run:
    parameters = ExportParameters.model_validate({"decimation_target": task.triangles, "texture_size": task.texture_px})
    with _watch_memory(device) as held:
        asset = extract(task.surface, parameters, provenance=LABELS, progress=lambda _: None, device=device)
    return Run(asset.glb, asset.timings, held, lambda: (read_glb(asset.glb), asset.mesh.origin))


def _run_upstream(task: Task, upstream: Any) -> Run:
    from bench.extraction.upstream_peer import read_upstream

    with _watch_memory("cuda:0") as held:
        body, timings = upstream.extract(task.surface, task.triangles, task.texture_px)
    return Run(body, timings, held, lambda: (read_upstream(body), np.zeros(3)))


def _watch_memory(device: str) -> Any:
    """Watch the memory of one extraction, after the memory of earlier ones is freed."""
    gc.collect()
    on_gpu = bool(wp.get_device(device).is_cuda)
    if on_gpu:
        import torch

        wp.synchronize()
        torch.cuda.empty_cache()
    return watch_peak_memory(on_gpu=on_gpu)


@contextmanager
def watch_peak_memory(*, on_gpu: bool) -> Iterator[PeakMemory]:
    """Measure peak memory, known after the block. Another process samples the GPU, since this one may be blocked."""
    memory = PeakMemory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the kernel's peak (VmHWM)
    watcher, before = _start_sampler() if on_gpu else (None, 0)
    try:
        yield memory
    finally:
        memory.host = _read_peak_rss()
        if watcher:
            watcher.terminate()
            held = [int(line) for line in watcher.communicate()[0].split() if line.isdigit()]
            memory.gpu = (max(held, default=before) - before) * MIB


def _start_sampler() -> tuple[subprocess.Popen[str], int]:
    """Start a process that samples GPU memory; return it and its first reading, MiB."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    watcher = subprocess.Popen([*command, f"--loop-ms={EVERY_MS}"], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    return watcher, int(watcher.stdout.readline())


def _read_peak_rss() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [each for each in status.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _print_runs(name: str, runs: list[Run], task: Task, device: str, arguments: argparse.Namespace) -> None:
    timings = {phase: statistics.median(run.timings.get(phase, 0) for run in runs) for phase in runs[0].timings}
    total_s = statistics.median(sum(run.timings.values()) for run in runs)
    run = runs[-1]
    print(f"{name}: {total_s:.2f} s = " + " + ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items()))
    model, origin = run.read_model()
    print(
        f"  {len(model.faces):,} triangles ({len(model.faces) / task.triangles:.3f} of the target), "
        f"{len(run.body) / 1e6:.2f} MB, GPU {run.peak.gpu / 1e9:.2f} GB, host {run.peak.host / 1e9:.2f} GB, "
        f"{len({each.body for each in runs})} different files of {len(runs)}"
    )
    quality = measure(model, task.surface, origin=origin, truth=task.truth, samples=arguments.samples, device=device)
    print(
        f"  mm: off {quality.off_mean * 1e3:.3f} (p99 {quality.off_p99 * 1e3:.3f}), "
        f"missed {quality.missed_mean * 1e3:.3f} (p99 {quality.missed_p99 * 1e3:.3f}), "
        f"of the hidden too {quality.all_missed_mean * 1e3:.3f} (p99 {quality.all_missed_p99 * 1e3:.3f}), "
        f"by what shows {quality.shown_mean * 1e3:.3f} (p99 {quality.shown_p99 * 1e3:.3f}); "
        f"normals {quality.normal_error_deg:.2f} degrees off, "
        f"{quality.flipped_normals:.4f} of the faces have a flipped normal\n"
        f"  dB: colour {quality.colour_db:.1f}, metallic {quality.metallic_db:.1f}, "
        f"roughness {quality.roughness_db:.1f}, "
        f"alpha {quality.alpha_db:.1f}; colour at mip levels 1-4 "
        f"{' / '.join(f'{each:.1f}' for each in quality.mip_db)}\n"
        f"  texture used {quality.coverage:.3f}, {quality.charts} charts, "
        f"{quality.overlapping_texels} overlapping texels; "
        f"invisible from outside: {quality.unseen_faces:.3f} of the triangles, "
        f"{quality.unseen_texels:.3f} of the texels; "
        f"{quality.boundary_edges} boundary edges, {quality.nonmanifold_edges} with more than two faces",
        flush=True,
    )
    if arguments.keep:
        label = f"{task.name}-{task.triangles}-{name}".replace(" ", "-").replace("^", "")
        (arguments.keep / f"{label}.glb").write_bytes(run.body)


if __name__ == "__main__":
    main()
