"""Whole assets in a row on one GPU: seconds each, how busy the GPU is, whether memory grows or results drift.

python -m bench.worker --assets 20     (needs a GPU; random weights of the real sizes, see bench.known_shape)
"""

import argparse
import hashlib
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from bench import random_weights
from bench.known_shape import KnownShape, KnownStructure
from shared.contract import Parameters
from shared.job import Stage
from worker.engine import Picture, State
from worker.trellis.engine import Trellis

DEVICE = torch.device("cuda")
SEED = 7


def engine() -> Trellis:
    """The engine, warm, that makes a bumpy sphere of every picture."""
    with torch.inference_mode():
        trellis = Trellis(random_weights.pipeline(DEVICE))
        trellis.warm_up()
        models = trellis.models
        models.structure_decoder = KnownStructure(models.structure_decoder)  # type: ignore[assignment]
        models.shape_decoder = KnownShape(models.shape_decoder)  # type: ignore[assignment]
    return trellis


def picture() -> Picture:
    """A disc of noise."""
    rgba = np.random.default_rng(0).integers(0, 256, (1024, 1024, 4), dtype=np.uint8)
    y, x = np.mgrid[:1024, :1024] - 512
    rgba[..., 3] = np.where(x * x + y * y < 400**2, 255, 0)
    return Picture(rgba, has_alpha=True)


def deaf(stage: Stage, fraction: float) -> None:
    """A Progress that nobody listens to."""


@contextmanager
def utilization() -> Iterator[list[float]]:
    """The share of time that the GPU works, in per cent, sampled ten times a second; whole once the block has ended."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    seen: list[float] = []
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield seen
        finally:
            sampler.terminate()
            assert sampler.stdout is not None
            seen += [float(line) for line in sampler.stdout if line.strip().isdigit()]


def finish(trellis: Trellis, state: State, parameters: Parameters, *, extracts: bool) -> float:
    """Decode, and extract where Warp is installed; the seconds that it took."""
    start = time.perf_counter()
    surface = trellis.surface(state, deaf)
    if extracts:
        from worker.extraction import Labels, extract

        labels = Labels(seed=SEED, generator="bench", custom_id=None, engine=trellis.name)
        extract(surface, parameters, labels=labels, progress=lambda _: None, device="cuda:0")
    return time.perf_counter() - start


def run(trellis: Trellis, parameters: Parameters, assets: int, *, extracts: bool, overlap: bool) -> None:
    """Make `assets` assets, one after the other, the next one sampling while the last one is finished."""
    shown, digests, finished = picture(), set(), list[Future[float]]()
    with utilization() as busy, ThreadPoolExecutor(1) as background:
        start = time.perf_counter()
        for i in range(assets):
            began = time.perf_counter()
            state = trellis.sample(shown, parameters, SEED, deaf)
            sampled_s = time.perf_counter() - began
            digests.add(hashlib.sha256(state.to_bytes()).hexdigest())
            finished.append(background.submit(finish, trellis, state, parameters, extracts=extracts))
            if not overlap:
                finished[-1].result()
            held = torch.cuda.memory_allocated() / 2**30
            if i < 3 or i == assets - 1:
                print(f"  asset {i + 1}: sampled in {sampled_s:.2f} s, {held:.2f} GiB held", flush=True)
        finishing_s = [future.result() for future in finished]
        total_s = time.perf_counter() - start
    print(
        f"{assets} assets, {parameters.pipeline_type}, {'overlapped' if overlap else 'one by one'}:"
        f" {total_s / assets:.2f} s each, finishing {np.median(finishing_s):.2f} s,"
        f" GPU works {np.mean(busy):.0f} % of the time, {len(digests)} different states,"
        f" peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
        flush=True,
    )


def main() -> None:
    """One by one, then overlapped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=20)
    parser.add_argument("--pipeline-type", default="1024_cascade")
    parser.add_argument("--sample-and-decode-only", action="store_true", help="without extraction, and without Warp")
    options = parser.parse_args()
    start = time.perf_counter()
    trellis = engine()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, ready in {time.perf_counter() - start:.0f} s")
    parameters = Parameters(pipeline_type=options.pipeline_type)
    for overlap in (False, True):
        run(trellis, parameters, options.assets, extracts=not options.sample_and_decode_only, overlap=overlap)


if __name__ == "__main__":
    main()
