"""Surface to GLB on a GPU, at the three sizes that TRELLIS.2's users ask for: `python -m bench.extraction`.

The surface is a rippled torus knot of 5.28 million faces, with some 7 million voxels at 1024^3. Seconds by phase, the
most GPU memory that Warp held, the most memory that the process ever held, the file's size, and what it is worth.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import warp as wp

from bench.glb_reading import read
from bench.quality import measure
from bench.surfaces import colours, knot, noisy, parts, sheet, thickened
from shared.contract import ExportParameters
from worker.engine import Surface
from worker.extraction import Asset, Labels, extract

LABELS = Labels(seed=1, generator="bench", custom_id=None, engine="bench")
GOALS_S = {(1_000_000, 4096): 6.0, (100_000, 2048): 2.5, (10_000, 1024): 1.5}
OTHERS: dict[str, Callable[[], Surface]] = {
    "sheet": lambda: sheet(700),
    "noisy": lambda: noisy(1200, 320),
    "parts": parts,
}
SAMPLES = 200_000


def main() -> None:
    """Print a block for each size, then the quality of the other surfaces at 100,000 triangles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tenth of the surface, for a quick look")
    parser.add_argument("--others", action="store_true", help="also an open, a noisy and a many-part surface")
    arguments = parser.parse_args()
    device, repeats = arguments.device, arguments.repeats
    surface = thickened(knot() if arguments.small else knot(2400, 1100, 1024))
    print(f"{wp.get_device(device).name}, {len(surface.faces):,} faces, {len(surface.coords):,} voxels", flush=True)
    begun = time.perf_counter()
    _extract(knot(100, 40, 64), 1_000, 512, device)
    print(f"kernels ready in {time.perf_counter() - begun:.1f} s; median of {repeats}")
    for (triangles, texture_px), goal_s in GOALS_S.items():
        print(f"\n{triangles:,} triangles, {texture_px} px, {goal_s} s at most")
        _show([_extract(surface, triangles, texture_px, device) for _ in range(repeats)], surface, device)
    for name, make in OTHERS.items() if arguments.others else ():
        print(f"\n{name}, 100,000 triangles, 2048 px")
        other = make()
        _show([_extract(other, 100_000, 2048, device)], other, device)


def _extract(surface: Surface, triangles: int, texture_px: int, device: str) -> Asset:
    parameters = ExportParameters.model_validate({"decimation_target": triangles, "texture_size": texture_px})
    return extract(surface, parameters, labels=LABELS, progress=lambda _: None, device=device)


def _show(assets: list[Asset], surface: Surface, device: str) -> None:
    timings = {phase: statistics.median(asset.timings[phase] for asset in assets) for phase in assets[0].timings}
    print(
        f"{sum(timings.values()):6.2f} s  " + "  ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items())
    )
    asset = assets[-1]
    print(
        f"{asset.triangles:,} triangles, {len(asset.glb) / 1e6:.2f} MB, {asset.mesh.charts} charts, "
        f"{len({each.glb for each in assets})} different files, {_memory(device)}"
    )
    quality = measure(read(asset.glb), surface, origin=asset.mesh.origin, truth=colours, samples=SAMPLES, device=device)
    print(
        f"off {quality.off_mean * 1e3:.3f} mm (p99 {quality.off_p99 * 1e3:.3f}), "
        f"missed {quality.missed_mean * 1e3:.3f} mm (p99 {quality.missed_p99 * 1e3:.3f}), "
        f"colour {quality.colour_db:.1f} dB, metal and roughness {quality.surface_db:.1f} dB, "
        f"texture used {quality.coverage:.2f}, overlapping texels {quality.overlap}, "
        f"boundary edges {quality.boundary}, crowded {quality.crowded}, turned normals {quality.disagreeing:.4f}",
        flush=True,
    )


def _memory(device: str) -> str:
    host_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if not wp.get_device(device).is_cuda:
        return f"host {host_gb:.1f} GB"
    return f"GPU {wp.get_mempool_used_mem_high(device) / 1e9:.1f} GB, host {host_gb:.1f} GB"


if __name__ == "__main__":
    main()
