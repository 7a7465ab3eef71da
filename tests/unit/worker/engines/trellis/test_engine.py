"""The whole engine on the CPU: real structure, tiny widths, random weights, from image to surface."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.domain.job import Stage
from shared.domain.parameters import Parameters
from shared.errors import EmptySurface, GpuOutOfMemory, JobStopped, OutputInvalid, StateMissing, WorkerUnfit
from tests.support.fakes import progress_to
from tests.unit.worker.engines.trellis import tiny_pipeline
from worker.engine import InputImage, Progress, State
from worker.engines.trellis.engine import Trellis
from worker.engines.trellis.pipeline import quantize

QUICK = Parameters(ss_sampling_steps=2, shape_slat_sampling_steps=2, tex_slat_sampling_steps=2, pipeline_type="512")


def _image() -> InputImage:
    rgba = np.random.default_rng(0).integers(0, 256, (90, 120, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    rgba[20:70, 30:90, 3] = 255
    return InputImage(rgba, has_alpha=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Trellis:
    """Loaded from files, as in production."""
    return Trellis.load(tiny_pipeline.write(tmp_path_factory.mktemp("weights")), "cpu")


@dataclass
class _Occupied:
    """A structure decoder that finds these cells, one set a call."""

    structures: Sequence[Tensor]
    asked: list[int] = field(default_factory=list)

    def occupied(self, _latents: Tensor, side: int) -> Tensor:
        self.asked.append(side)
        return self.structures[len(self.asked) - 1]


def _with_structures(engine: Trellis, *structures: Tensor) -> tuple[Trellis, _Occupied]:
    decoder = _Occupied(structures)
    return Trellis(replace(engine.models, structure_decoder=decoder)), decoder  # type: ignore[arg-type]


EMPTY = torch.zeros(0, 3, dtype=torch.int32)
FLAT = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.tensor([3])).int()
SOLID = torch.cartesian_prod(*[torch.arange(3)] * 3).int()


@pytest.mark.parametrize(("pipeline_type", "resolution"), [("512", "512"), ("1024_cascade", "1024")])
def test_image_becomes_a_surface(engine: Trellis, pipeline_type: str, resolution: str) -> None:
    """Y up, inside its grid, with a material on its voxels."""
    parameters = QUICK.model_copy(update={"pipeline_type": pipeline_type})
    state = engine.sample(_image(), parameters, 5, Progress())
    assert {"seed": "5", "resolution": resolution, "pipeline_type": pipeline_type} == state.notes
    surface = engine.decode(state, Progress())
    assert int(resolution) == surface.resolution
    assert len(surface.coords) == len(surface.attributes) <= len(surface.vertices)
    assert 0 <= surface.coords.min() <= surface.coords.max() < surface.resolution
    assert 0 <= surface.attributes.min() < surface.attributes.max() <= 1
    centres = (surface.coords + 0.5) / surface.resolution - 0.5
    assert np.abs(surface.vertices[: len(centres)] - centres).max() <= 1 / surface.resolution + 1e-6


def test_same_wishes_give_the_same_state(engine: Trellis) -> None:
    """Byte for byte; another seed gives another."""
    first, again, different = (engine.sample(_image(), QUICK, seed, Progress()).to_bytes() for seed in (5, 5, 6))
    assert first == again
    assert first != different


def test_stored_state_decodes_to_the_same_surface(engine: Trellis) -> None:
    """Nothing is lost on the way through the store."""
    state = engine.sample(_image(), QUICK, 5, Progress())
    direct, stored = engine.decode(state, Progress()), engine.decode(State.from_bytes(state.to_bytes()), Progress())
    for name in ("vertices", "faces", "coords", "attributes"):
        assert np.array_equal(getattr(direct, name), getattr(stored, name))


@pytest.mark.parametrize("state", [State("relief", {}), State("trellis", {}), State("trellis", {"coords": np.ones(3)})])
def test_foreign_state_is_refused(engine: Trellis, state: State) -> None:
    """By name, or because it lacks what decoding needs."""
    with pytest.raises(StateMissing):
        engine.decode(state, Progress())


def test_every_parameter_reaches_the_sampler(engine: Trellis) -> None:
    """Changing any one of them changes the state."""
    parameters = QUICK.model_copy(
        update={"ss_sampling_steps": 3, "shape_slat_sampling_steps": 3, "tex_slat_sampling_steps": 3}
    )
    parameters = parameters.model_copy(update={"tex_slat_guidance_strength": 2.0})
    base = engine.sample(_image(), parameters, 5, Progress()).to_bytes()
    for stage in ("ss", "shape_slat", "tex_slat"):
        steps = "ss_sampling_steps" if stage == "ss" else f"{stage}_sampling_steps"
        changes = {
            steps: 2,
            f"{stage}_guidance_strength": 5.0,
            f"{stage}_guidance_rescale": 0.9,
            f"{stage}_rescale_t": 4.0,
        }
        for name, value in changes.items():
            changed = engine.sample(_image(), parameters.model_copy(update={name: value}), 5, Progress())
            assert base != changed.to_bytes(), name


def test_empty_structure_is_tried_with_the_next_seeds(engine: Trellis) -> None:
    """The seed that worked is the state's, and gives the same state when asked for at once."""
    patient, decoder = _with_structures(engine, EMPTY, FLAT, SOLID)
    state = patient.sample(_image(), QUICK, 5, Progress())
    assert ("7", [32, 32, 32]) == (state.notes["seed"], decoder.asked)
    direct, _ = _with_structures(engine, SOLID)
    assert state.to_bytes() == direct.sample(_image(), QUICK, 7, Progress()).to_bytes()


def test_flat_structure_is_taken_if_all_are_flat(engine: Trellis) -> None:
    """Some objects are; the first seed that gave one is used."""
    patient, _ = _with_structures(engine, EMPTY, FLAT, FLAT[:9], EMPTY)
    state = patient.sample(_image(), QUICK, 5, Progress())
    assert ("6", len(FLAT)) == (state.notes["seed"], len(state.arrays["coords"]))


def test_no_structure_with_four_seeds_is_an_empty_surface(engine: Trellis) -> None:
    """A code of its own, not a crash."""
    patient, decoder = _with_structures(engine, *[EMPTY] * 4)
    with pytest.raises(EmptySurface, match="5 to 8"):
        patient.sample(_image(), QUICK, 5, Progress())
    assert 4 == len(decoder.asked)


@pytest.mark.parametrize("pipeline_type", ["512", "1024_cascade"])
def test_shape_without_voxels_is_an_empty_surface(engine: Trellis, pipeline_type: str) -> None:
    """Whether it shows between a cascade's passes or when the state is decoded."""
    decoder = engine.models.shape_decoder
    tensors = dict(decoder.tensors) | {"blocks.2.1.to_subdiv.bias": torch.full((8,), -99.0)}
    barren = Trellis(replace(engine.models, shape_decoder=replace(decoder, tensors=tensors)))
    parameters = QUICK.model_copy(update={"pipeline_type": pipeline_type})
    with pytest.raises(EmptySurface):
        barren.decode(barren.sample(_image(), parameters, 5, Progress()), Progress())


def test_numbers_that_are_none_end_the_job(engine: Trellis) -> None:
    """With a code, whichever weights they come from."""
    tensors = dict(engine.models.structure_flow.tensors)
    tensors["out_layer.bias"] = torch.full_like(tensors["out_layer.bias"], float("nan"))
    broken = replace(engine.models, structure_flow=replace(engine.models.structure_flow, tensors=tensors))
    with pytest.raises(OutputInvalid, match="sparse structure"):
        Trellis(broken).sample(_image(), QUICK, 5, Progress())


def test_cancel_arrives_between_steps(engine: Trellis) -> None:
    """Of every stage: what progress raises comes out unchanged."""
    reports: list[tuple[Stage, float]] = []
    progress = progress_to(lambda *report: reports.append(report))
    engine.decode(engine.sample(_image(), QUICK, 5, progress), progress)
    assert [Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE, Stage.DECODE] == list(dict(reports))
    for stop_at in (Stage.SPARSE_STRUCTURE, Stage.SHAPE, Stage.TEXTURE):

        def stop(stage: Stage, _fraction: float, stop_at: Stage = stop_at) -> None:
            if stage is stop_at:
                raise JobStopped("canceled")

        with pytest.raises(JobStopped):
            engine.sample(_image(), QUICK, 5, progress_to(stop))


@dataclass
class _Failing:
    """Features that fail a number of times, then are the engine's."""

    engine: Trellis
    failures: list[Exception]

    def __call__(self, rgb: np.ndarray) -> Tensor:
        if self.failures:
            raise self.failures.pop(0)
        return self.engine.models.extract_features(rgb)


def _failing(engine: Trellis, *failures: Exception) -> Trellis:
    return Trellis(replace(engine.models, extract_features=_Failing(engine, list(failures))))


def test_out_of_memory_is_named(engine: Trellis) -> None:
    """The caller learns what to lower."""
    parameters = QUICK.model_copy(update={"pipeline_type": "1024_cascade", "allow_degrade": True})
    with pytest.raises(GpuOutOfMemory, match="pipeline_type"):
        _failing(engine, torch.OutOfMemoryError("CUDA out of memory")).sample(_image(), parameters, 5, Progress())


def test_out_of_memory_frees_what_the_job_held(engine: Trellis) -> None:
    """Before the error is handled: what is tried next needs the room."""
    held: list[weakref.ref[Tensor]] = []

    def features(_: np.ndarray) -> Tensor:
        large = torch.zeros(9)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    full = Trellis(replace(engine.models, extract_features=features))
    with pytest.raises(GpuOutOfMemory) as raised:
        full.sample(_image(), QUICK, 5, Progress())
    assert raised.value.__cause__ is not None
    assert held[0]() is None


@pytest.mark.parametrize(
    "says",
    [
        "CUDA error: an illegal memory access was encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "Triton Error [CUDA]: misaligned address",
    ],
)
def test_broken_gpu_makes_the_worker_unfit(engine: Trellis, says: str) -> None:
    """Whichever library notices it."""
    with pytest.raises(WorkerUnfit):
        _failing(engine, RuntimeError(says)).sample(_image(), QUICK, 5, Progress())


def test_any_other_failure_stays_what_it_is(engine: Trellis) -> None:
    """A bug of ours is no reason to replace the process."""
    with pytest.raises(RuntimeError, match="shape"):
        _failing(engine, RuntimeError("shape mismatch")).sample(_image(), QUICK, 5, Progress())


def test_token_limit_lowers_the_resolution() -> None:
    """In steps of 128 and not below 1024, as many as it takes to stay below the limit."""
    fine = torch.cartesian_prod(*[torch.arange(0, 512, 4)] * 2, torch.tensor([7])).int()
    assert 1536 == quantize(fine, 1536, 99_999)[1]
    at_1280 = len(quantize(fine, 1280, 99_999)[0])
    assert 1280 == quantize(fine, 1536, at_1280 + 1)[1]
    assert 1152 == quantize(fine, 1536, at_1280)[1]
    assert 1024 == quantize(fine, 1536, 1)[1]


def test_tokens_are_the_cells_around_what_was_found_in_lexicographic_order() -> None:
    """Each once: noise is dealt in this order."""
    fine = torch.tensor([[511, 0, 9], [0, 8, 511], [0, 9, 510], [0, 7, 0]], dtype=torch.int32)
    assert [[0, 0, 0], [0, 1, 63], [63, 0, 1]] == quantize(fine, 1024, 99)[0].tolist()
