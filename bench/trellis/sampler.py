"""Compare all sampling of a job by upstream's package and by ours in one run: seconds and relative error.

python -m bench.trellis.sampler --upstream CHECKOUT     (needs a GPU; random weights of the real structure and sizes)
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.trellis import upstream
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.sampling.cuda_graphs import GraphReplay, Pool, StructureGraph
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Guidance, sample, steps

STEPS = 12
SIGMA_MIN = 1e-5
INTERVAL = (0.6, 1.0)
IMAGE_TOKENS = {512: 1029, 1024: 4101}  # DINOv3's: a class token, four registers, one per 16 x 16 pixels
DEVICE = torch.device("cuda")
LIBRARIES = ("gemm", "nvjet", "cutlass", "cudnn", "flash", "fmha")  # parts of the names of their kernels


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage at one size. model: which of the pipeline's models; image: side of its image, pixels."""

    name: str
    model: str
    tokens: int
    image: int
    strength: float
    rescale: float
    rescale_t: float

    @property
    def is_dense(self) -> bool:
        """Whether its tokens are a dense grid."""
        return self.model == "structure"


def _shape_stage(name: str, tokens: int, image: int) -> Stage:
    return Stage(name, "shape", tokens, image, 7.5, 0.5, 3.0)


def _texture_stage(name: str, tokens: int, image: int) -> Stage:
    return Stage(name, "texture", tokens, image, 1.0, 0.0, 3.0)


STRUCTURE = Stage("sparse structure", "structure", 4096, 512, 7.5, 0.7, 5.0)
STAGES = (
    STRUCTURE,
    _shape_stage("shape 512", 3_118, 512),
    _texture_stage("texture 512", 3_118, 512),
    _shape_stage("shape 1024", 13_992, 1024),
    _texture_stage("texture 1024", 13_992, 1024),
    _shape_stage("shape 1536", 34_164, 1024),
    _texture_stage("texture 1536", 34_164, 1024),
)
# Which stages a pipeline type runs.
PIPELINES = {
    "512": ("sparse structure", "shape 512", "texture 512"),
    "1024": ("sparse structure", "shape 1024", "texture 1024"),
    "1024_cascade": ("sparse structure", "shape 512", "shape 1024", "texture 1024"),
    "1536_cascade": ("sparse structure", "shape 512", "shape 1536", "texture 1536"),
}


def surface_cells(count: int, seed: int = 0) -> Tensor:
    """Return `count` different cells on a bumpy sphere, int32 [count, 3], in lexicographic order."""
    side = int((count / 2.2) ** 0.5)
    points = torch.randn(20 * count, 3, generator=torch.Generator().manual_seed(seed))
    points /= points.norm(dim=1, keepdim=True)
    cells = ((points * 0.45 * (1 + 0.1 * torch.sin(9 * points)) + 0.5) * side).int().unique(dim=0)
    picked = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    if len(picked) < count:
        raise ValueError(f"only {len(picked)} cells of {count}")
    return cells[picked].contiguous()


def measure_once(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return the result of `work` and the seconds until the GPU has finished."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start


@dataclass(slots=True)
class Pair:
    """The same weights in upstream's class and in ours. recorded: ours on the structure's grid, as jobs run it.

    pool: of what the other stages record.
    """

    theirs: Any
    ours: FlowTransformer
    graph: StructureGraph | None = None
    pool: Pool | None = None


def build_pairs(dtype: str, blocks: int) -> dict[str, Pair]:
    """Build the three architectures with random weights."""
    from trellis2.models import SLatFlowModel, SparseStructureFlowModel

    own: dict[str, tuple[type, dict[str, Any]]] = {
        "structure": (SparseStructureFlowModel, {"resolution": 16, "in_channels": 8, "out_channels": 8}),
        "shape": (SLatFlowModel, {}),
        "texture": (SLatFlowModel, {"in_channels": 64}),
    }
    pairs = {}
    for name, (kind, different) in own.items():
        arguments = upstream.flow_arguments(**different, dtype=dtype, num_blocks=blocks)
        theirs = upstream.build_random_model(kind, arguments, DEVICE)
        pairs[name] = Pair(theirs, FlowTransformer.of(arguments, theirs.state_dict()))
    return pairs


def draw_inputs(stage: Stage) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Draw noise, cells, image and the concatenated latents on the device."""
    generator = torch.Generator().manual_seed(stage.tokens)
    channels = 8 if stage.is_dense else 32
    cells = torch.cartesian_prod(*[torch.arange(16)] * 3) if stage.is_dense else surface_cells(stage.tokens)
    noise = torch.randn(stage.tokens, channels, generator=generator)
    image = torch.randn(IMAGE_TOKENS[stage.image], 1024, generator=generator)
    concatenated = torch.randn(stage.tokens, 32, generator=generator) if stage.model == "texture" else None
    return (
        noise.to(DEVICE),
        cells.int().to(DEVICE),
        image.to(DEVICE),
        None if concatenated is None else concatenated.to(DEVICE),
    )


def build_upstream_run(model: Any, stage: Stage, count: int) -> Callable[[], Tensor]:
    """Run upstream's sampler on the stage for `count` steps of its schedule."""
    from trellis2.modules.sparse import SparseTensor
    from trellis2.pipelines.samplers import FlowEulerGuidanceIntervalSampler

    noise, cells, image, concatenated = draw_inputs(stage)
    settings: dict[str, Any] = {
        "cond": image[None],
        "neg_cond": torch.zeros_like(image[None]),
        "steps": count,
        "rescale_t": stage.rescale_t,
        "guidance_strength": stage.strength,
        "guidance_rescale": stage.rescale,
        "guidance_interval": INTERVAL,
        "verbose": False,
    }
    sampler = FlowEulerGuidanceIntervalSampler(SIGMA_MIN)
    if stage.is_dense:
        grid = noise.T.reshape(1, 8, 16, 16, 16).contiguous()
        return lambda: sampler.sample(model, grid, **settings).samples[0].flatten(1).T
    coords = torch.cat((torch.zeros_like(cells[:, :1]), cells), dim=1)
    if concatenated is not None:
        settings["concat_cond"] = SparseTensor(concatenated, coords)
    return lambda: sampler.sample(model, SparseTensor(noise, coords), **settings).samples.feats


def build_our_run(pair: Pair, stage: Stage, count: int) -> Callable[[], Tensor]:
    """Run our sampler on the stage, with the work that is done once per job or stage."""
    noise, cells, image, concatenated = draw_inputs(stage)
    guidance = Guidance(stage.strength, stage.rescale, SIGMA_MIN)
    schedule = steps(count, stage.rescale_t, INTERVAL)

    def work() -> Tensor:
        contexts = pair.ours.contexts(image)
        if pair.graph is not None:
            pair.graph.set_image(contexts)
            return sample(pair.ours, pair.graph, noise, schedule, guidance)
        flow = ConditionedFlow(pair.ours, pair.ours.phases(cells), contexts, concatenated)
        velocity = flow if pair.pool is None else GraphReplay(flow, pair.pool)
        return sample(pair.ours, velocity, noise, schedule, guidance)

    return work


@dataclass(frozen=True, slots=True)
class Row:
    """Measure a stage's seconds and the relative error of our sample.

    fresh_s: ours with a number of tokens that was never seen before, as nearly every job has. libraries_s: what of ours
    cuBLAS and cuDNN spend in matrix products and attention.
    """

    stage: str
    theirs_s: float
    ours_s: float
    fresh_s: float
    libraries_s: float
    error: float


def measure(pairs: dict[str, Pair], stages: Sequence[Stage], rounds: int = 1) -> Iterator[Row]:
    """Measure each warm stage: medians of alternating rounds."""
    for stage in stages:
        pair = pairs[stage.model]
        build_upstream_run(pair.theirs, stage, 1)()
        build_our_run(pair, stage, 1)()
        theirs_s, ours_s = list[float](), list[float]()
        for _ in range(rounds):
            theirs, seconds = measure_once(build_upstream_run(pair.theirs, stage, STEPS))
            theirs_s.append(seconds)
            ours, seconds = measure_once(build_our_run(pair, stage, STEPS))
            ours_s.append(seconds)
        error = float((ours - theirs).norm() / theirs.norm())
        libraries_s = measure_library_kernels(build_our_run(pair, stage, STEPS))
        fresh = stage if stage.is_dense else replace(stage, tokens=stage.tokens + 1)
        _, fresh_s = measure_once(build_our_run(pair, fresh, STEPS))
        yield Row(stage.name, statistics.median(theirs_s), statistics.median(ours_s), fresh_s, libraries_s, error)


def measure_library_kernels(work: Callable[[], Tensor]) -> float:
    """Measure the GPU's seconds in matrix products and attention."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    kernels = [event for event in seen.key_averages() if any(name in event.key.lower() for name in LIBRARIES)]
    return float(sum(event.device_time_total for event in kernels)) / 1e6


def record_graphs(pairs: dict[str, Pair]) -> None:
    """Record the structure's model on its grid, and let the others be recorded as they run."""
    pool, own = torch.cuda.graph_pool_handle(), pairs["structure"]
    image = torch.zeros(IMAGE_TOKENS[512], 1024, device=DEVICE)
    own.graph = StructureGraph(own.ours, own.ours.phases(own.ours.grid()), own.ours.contexts(image), pool)
    for pair in pairs.values():
        pair.pool = pool


def print_table(rows: Sequence[Row]) -> None:
    """Print the table by stage, then by pipeline type."""
    print(f"{'stage':20}{'upstream s':>12}{'ours s':>10}{'times':>8}{'fresh s':>10}{'libraries s':>13}{'error':>11}")
    for row in rows:
        times = f"{row.theirs_s:12.3f}{row.ours_s:10.3f}{row.theirs_s / row.ours_s:8.2f}"
        print(f"{row.stage:20}{times}{row.fresh_s:10.3f}{row.libraries_s:13.3f}{row.error:11.2e}")
    by_stage = {row.stage: row for row in rows}
    for name, stages in PIPELINES.items():
        if all(stage in by_stage for stage in stages):
            theirs = sum(by_stage[stage].theirs_s for stage in stages)
            ours = sum(by_stage[stage].ours_s for stage in stages)
            print(f"{name:20}{theirs:12.3f}{ours:10.3f}{theirs / ours:8.2f}", flush=True)


def main() -> None:
    """Measure in bf16 at full size, then check in fp32 with few blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, required=True, help="checkout of the TRELLIS.2 repository")
    parser.add_argument("--stages", nargs="*", default=[stage.name for stage in STAGES])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fp32-blocks", type=int, default=2, help="blocks of the models compared in fp32; 0: none")
    options = parser.parse_args()
    upstream.add_to_path(options.upstream)
    stages = [stage for stage in STAGES if stage.name in options.stages]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        pairs = build_pairs("bfloat16", 30)
        record_graphs(pairs)
        print_table(list(measure(pairs, stages, options.rounds)))
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        if options.fp32_blocks:
            pairs.clear()
            print(f"fp32, {options.fp32_blocks} blocks")
            print_table(list(measure(build_pairs("float32", options.fp32_blocks), stages)))


if __name__ == "__main__":
    main()
