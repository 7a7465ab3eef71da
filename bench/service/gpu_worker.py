"""python -m bench.service.gpu_worker makes whole assets in a row on one GPU; it checks time, GPU use, memory, results.

It needs a GPU, and 16 GB of disk for random weights; see bench.geometry.known_shape.
"""

import argparse
import hashlib
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from bench.geometry.known_shape import KnownShape, KnownStructure, KnownTexture
from bench.support import random_weights
from infra.settings.modal import INVOCATIONS_PER_CONTAINER
from shared.domain.job import Stage
from shared.domain.parameters import Parameters
from worker.engine import InputImage, Progress, ProgressListener, State
from worker.engines.trellis.engine import Trellis
from worker.engines.trellis.pipeline_models import load_models

DEVICE = torch.device("cuda")
SEED = 7
MAX_FINISHING = INVOCATIONS_PER_CONTAINER - 1  # jobs that finish while another samples


def build_engine(folder: Path) -> Trellis:
    """Load and warm up the engine, with decoders that turn every image into a bumpy striped sphere."""
    start = time.perf_counter()
    models = load_models(folder, DEVICE)
    torch.cuda.synchronize()
    read_s = time.perf_counter() - start
    trellis = Trellis(models)
    trellis.warm_up()
    print(f"all weights read in {read_s:.1f} s; warm {time.perf_counter() - start - read_s:.1f} s later", flush=True)
    models.structure_decoder = KnownStructure(models.structure_decoder)  # type: ignore[assignment]
    models.shape_decoder = KnownShape(models.shape_decoder)  # type: ignore[assignment]
    models.texture_decoder = KnownTexture(models.texture_decoder)  # type: ignore[assignment]
    return trellis


def load_engine(folder: Path | None) -> Trellis:
    """Build the engine from the weights in `folder`, or from new random weights."""
    if folder is not None:
        return build_engine(folder)
    with tempfile.TemporaryDirectory() as own:
        print(f"{random_weights.write_weights(Path(own), DEVICE) / 1e9:.1f} GB of weights drawn", flush=True)
        torch.cuda.empty_cache()
        return build_engine(Path(own))


def image() -> InputImage:
    """Draw a disc of noise."""
    rgba = np.random.default_rng(0).integers(0, 256, (1024, 1024, 4), dtype=np.uint8)
    y, x = np.mgrid[:1024, :1024] - 512
    rgba[..., 3] = np.where(x * x + y * y < 400**2, 255, 0)
    return InputImage(rgba, has_alpha=True)


class Stopwatch(ProgressListener):
    """Record when each stage was first reported."""

    def __init__(self) -> None:
        self._began: dict[Stage, float] = {}

    def on_stage(self, stage: Stage, fraction: float) -> None:  # noqa: ARG002 - part of the interface
        """Record the time."""
        self._began.setdefault(stage, time.perf_counter())

    def __str__(self) -> str:
        return ", ".join(f"{stage} {later - began:.2f}" for (stage, began), later in self._spans())

    def _spans(self) -> Iterator[tuple[tuple[Stage, float], float]]:
        ends = [*self._began.values(), time.perf_counter()][1:]
        return zip(self._began.items(), ends, strict=True)


@contextmanager
def sample_utilization() -> Iterator[list[float]]:
    """Sample the GPU's utilization in per cent, ten times a second; the list is filled when the block ends."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    samples: list[float] = []
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield samples
        finally:
            sampler.terminate()
            assert sampler.stdout is not None
            samples += [float(line) for line in sampler.stdout if line.strip().isdigit()]


def finish_asset(trellis: Trellis, state: State, parameters: Parameters, *, extracts: bool) -> tuple[float, str]:
    """Decode and, where Warp is installed, extract; return the seconds and a digest of surface and file."""
    start = time.perf_counter()
    surface = trellis.decode(state, Progress())
    decoded_s = time.perf_counter() - start
    digest = zlib.crc32(surface.attributes.data, zlib.crc32(surface.vertices.data))
    if extracts:
        from worker.extraction import Provenance, extract

        labels = Provenance(seed=SEED, generator="bench", custom_id=None, engine=trellis.name)
        asset = extract(surface, parameters, provenance=labels, progress=lambda _: None, device="cuda:0")
        digest = zlib.crc32(asset.glb, digest)  # two concurrent extractions must not affect each other
        phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in asset.timings.items())
        print(f"  decoded in {decoded_s:.2f} s; {phases}", flush=True)
    return time.perf_counter() - start, f"{digest:x}"


def run(trellis: Trellis, parameters: Parameters, assets: int, *, extracts: bool, overlap: bool) -> None:
    """Make `assets` assets. One samples at a time; with `overlap` others finish meanwhile, as in a worker."""
    shown, states, finished = image(), set[str](), list[Future[tuple[float, str]]]()
    sampling_s, held_gib = list[float](), list[float]()
    with sample_utilization() as busy, ThreadPoolExecutor(MAX_FINISHING) as background:
        start = time.perf_counter()
        for _ in range(assets):
            began, watch = time.perf_counter(), Stopwatch()
            state = trellis.sample(shown, parameters, SEED, Progress(watch))
            sampling_s.append(time.perf_counter() - began)
            stages = str(watch)
            states.add(hashlib.sha256(state.to_bytes()).hexdigest())
            finished.append(background.submit(finish_asset, trellis, state, parameters, extracts=extracts))
            unfinished = [future for future in finished if not future.done()]
            if len(unfinished) > (MAX_FINISHING if overlap else 0):
                wait(unfinished, return_when=FIRST_COMPLETED)
            held_gib.append(torch.cuda.memory_allocated() / 2**30)
        results = [future.result() for future in finished]
        total_s = time.perf_counter() - start
    half = assets // 2
    print(
        f"{assets} assets, {parameters.pipeline_type}, {'overlapped' if overlap else 'one by one'}:"
        f" {total_s / assets:.2f} s each (first {sampling_s[0] + results[0][0]:.2f} s), sampling"
        f" {np.median(sampling_s):.2f} s (last: {stages}), finishing"
        f" {np.median([seconds for seconds, _ in results]):.2f} s,"
        f" GPU works {np.mean(busy):.0f} % of the time; {len(states)} different states,"
        f" {len({digest for _, digest in results})} different results;"
        f" held {max(held_gib[:half] or held_gib):.3f} GiB at most in the first half, {max(held_gib):.3f} in all,"
        f" peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
        flush=True,
    )


def main() -> None:
    """Run a few assets one by one, then all with overlap, then many short jobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=20)
    parser.add_argument("--sequential", type=int, default=3, help="assets made one by one")
    parser.add_argument("--short", type=int, default=100, help="jobs at 512 with two steps a stage")
    parser.add_argument("--pipeline-type", default="1024_cascade")
    parser.add_argument("--sample-and-decode-only", action="store_true", help="without extraction, and without Warp")
    parser.add_argument("--weights", type=Path, help="where `python -m bench.support.random_weights FOLDER` wrote them")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    trellis = load_engine(options.weights)
    parameters, extracts = Parameters(pipeline_type=options.pipeline_type), not options.sample_and_decode_only
    if options.assets or options.sequential:
        run(trellis, parameters, 1, extracts=extracts, overlap=False)
    if options.sequential:
        run(trellis, parameters, options.sequential, extracts=extracts, overlap=False)
    if options.assets:
        run(trellis, parameters, options.assets, extracts=extracts, overlap=True)
    short = Parameters(pipeline_type="512", ss_sampling_steps=2, shape_slat_sampling_steps=2, tex_slat_sampling_steps=2)
    run(trellis, short, options.short, extracts=False, overlap=True)


if __name__ == "__main__":
    main()
