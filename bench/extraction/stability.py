"""python -m bench.extraction.stability runs hundreds of extractions in one process.

Memory must not grow. The surfaces alternate, and each must give the same bytes every time.
"""

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warp as wp

from bench.geometry.surfaces import knot, noisy, parts, sheet
from shared.domain.parameters import ExportParameters
from worker.engine import Surface
from worker.extraction import Provenance, extract
from worker.extraction.kernels.runtime import best_device

LABELS = Provenance(seed=1, generator="bench", custom_id=None, engine="bench")
TURNS: tuple[tuple[Callable[[], Surface], dict[str, Any]], ...] = (
    (lambda: knot(400, 120, 256), {"decimation_target": 20_000, "texture_size": 1024}),
    (lambda: sheet(200, 256), {"decimation_target": 10_000, "texture_size": 512}),
    (lambda: noisy(200, 60, 128), {"decimation_target": 5_000, "texture_size": 512}),
    (lambda: parts(60, 12, 256), {"decimation_target": 10_000, "texture_size": 1024, "texture_format": "webp"}),
)


def main() -> None:
    """Print memory and seconds of the first and the last rounds, and how many files differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    tasks = [(make(), ExportParameters.model_validate(options)) for make, options in TURNS]
    files: list[set[str]] = [set() for _ in tasks]
    seconds, memory = [], []
    for number in range(arguments.count):
        surface, parameters = tasks[number % len(tasks)]
        begun = time.perf_counter()
        body = extract(surface, parameters, provenance=LABELS, progress=lambda _: None, device=arguments.device).glb
        seconds.append(time.perf_counter() - begun)
        files[number % len(tasks)].add(hashlib.sha256(body).hexdigest())
        memory.append((_resident_bytes(), _gpu_bytes(arguments.device)))
    tenth = max(arguments.count // 10, len(tasks))
    print(
        f"{arguments.count} extractions of {len(tasks)} surfaces on {wp.get_device(arguments.device).name}: "
        f"{[len(each) for each in files]} different files"
    )
    for name, when in (("after the first tenth", slice(tenth - 1, tenth)), ("after the last", slice(-1, None))):
        ((host, gpu),) = memory[when]
        print(f"{name}: host {host / 1e6:.0f} MB, GPU {gpu / 1e6:.0f} MB")
    early, late = seconds[len(tasks) : tenth + len(tasks)], seconds[-tenth:]
    print(f"seconds: second round on {statistics.median(early):.3f}, last {statistics.median(late):.3f}", flush=True)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _gpu_bytes(device: str) -> int:
    """Return the used memory of the whole GPU; 0 on a CPU."""
    gpu = wp.get_device(device)
    return int(gpu.total_memory - gpu.free_memory) if gpu.is_cuda else 0


if __name__ == "__main__":
    main()
