"""Surface to GLB on the CPU, beside a simple peer: `python -m bench.extraction.cpu`.

Both run in this process, in turn, on the same surface, warm. The pause is the longest time that another thread of the
process, such as one that answers HTTP requests, had to wait for the interpreter.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from bench.extraction.peer import Peer
from bench.geometry.glb_reader import read
from bench.geometry.mesh_quality import measure
from bench.geometry.surfaces import colours, knot
from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction import Provenance, extract
from worker.extraction.render import poster

LABELS = Provenance(seed=1, generator="bench", custom_id=None, engine="bench")
GOALS_S = {(10_000, 1024): 6.0, (100_000, 2048): 18.0}
SAMPLES = 200_000


def main() -> None:
    """Print a block for each preset: seconds by phase, ours and the peer's, and what they are worth."""
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
            ours.append(_ours(surface, triangles, texture_px))
            theirs.append(_theirs(surface, triangles, texture_px))
        totals = [_show(name, runs) for name, runs in (("ours", ours), ("peer", theirs))]
        print(f"ratio  {totals[1] / totals[0]:.1f}")
    if arguments.largest:
        print("\n1,000,000 triangles, 4096 px")
        _show("ours", [_ours(surface, 1_000_000, 4096)])


class _Run:
    """One run: seconds by phase, the longest pause of another thread, and a function that judges the file."""

    def __init__(self, timings: dict[str, float], pause_s: float, judge: Callable[[], str]) -> None:
        self.timings = timings
        self.pause_s = pause_s
        self.judge = judge


def _ours(surface: Surface, triangles: int, texture_px: int) -> _Run:
    parameters = ExportParameters.model_validate({"decimation_target": triangles, "texture_size": texture_px})
    with _watched() as pauses:
        asset = extract(surface, parameters, provenance=LABELS, progress=lambda _: None)
        begun = time.perf_counter()
        poster.render_poster(asset)
        drawn_s = time.perf_counter() - begun
    timings = {**asset.timings, "(poster)": drawn_s}
    return _Run(timings, max(pauses), lambda: _judged(asset.glb, surface, asset.mesh.origin))


def _theirs(surface: Surface, triangles: int, texture_px: int) -> _Run:
    with _watched() as pauses:
        peer = Peer(surface, triangles, texture_px)
    return _Run(peer.timings, max(pauses), lambda: _judged(peer.body, surface, np.zeros(3)))


def _show(name: str, runs: list[_Run]) -> float:
    timings = {phase: statistics.median(run.timings[phase] for run in runs) for phase in runs[0].timings}
    total_s = sum(seconds for phase, seconds in timings.items() if phase[0] != "(")
    pause_s = statistics.median(run.pause_s for run in runs)
    print(f"{name}  {total_s:6.2f} s  " + "  ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items()))
    print(f"      pause {pause_s * 1000:.0f} ms, {runs[-1].judge()}")
    return total_s


def _judged(body: bytes, surface: Surface, origin: np.ndarray) -> str:
    quality = measure(read(body), surface, origin=origin, truth=colours, samples=SAMPLES)
    return (
        f"{len(body) / 1e6:.2f} MB, off {quality.off_mean * 1e3:.3f} mm, missed {quality.missed_mean * 1e3:.3f} mm, "
        f"colour {quality.colour_db:.1f} dB, at mip 1-4 {' / '.join(f'{each:.1f}' for each in quality.mip_db)}, "
        f"texture used {quality.coverage:.3f}, {quality.charts} charts, overlapping texels {quality.overlap}"
    )


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Wake up every two milliseconds and note how late."""
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


if __name__ == "__main__":
    main()
