"""What is done to one job, step by step: fetch, prepare, sample, extract, store."""

import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.domain.job import Artifact, Job, Stage
from shared.domain.parameters import MAX_IMAGE_BYTES, Format
from shared.domain.preset_limits import target_of
from shared.errors import GpuOutOfMemory, ImageRejected, ObjectNotFound, OutputInvalid, StateMissing, StoreUnavailable
from shared.log import log
from shared.net.egress import Egress
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import LOWER_PIPELINE_TYPE, Engine, InputImage, Progress, State, show_preview
from worker.extraction import ExportedAsset, Provenance, export, require_writers
from worker.extraction.kernels.runtime import best_device
from worker.extraction.model.asset import measure_sides_m
from worker.extraction.render.poster import render_poster
from worker.runner import image_decoder
from worker.runner.result import CONTENT_TYPES, JobResult

Result = TypeVar("Result")

GENERATOR = "trellis2-service"
FILENAMES: dict[Format, str] = {"usdz": "model.usdz", "meshopt": "model.meshopt.glb"}
MODELS = {"model", *FILENAMES}  # the artifacts that are the asset itself
READ_TRIES = 3  # of one object whose bytes are not the ones that were recorded


@dataclass(slots=True)
class StageTimer:
    """A Progress that passes on what it hears and counts the seconds of each stage."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    _running: str = "prepare"
    _since: float = field(default_factory=time.monotonic)

    def __call__(self, stage: Stage, fraction: float) -> None:
        """Count, then pass on."""
        if stage != self._running:
            self.stop()
            self._running = stage
        self.progress(stage, fraction)

    def show_preview(self, image: NDArray[np.uint8]) -> None:
        """Pass on a preview."""
        show_preview(self.progress, image)

    def stop(self) -> None:
        """Count the stage that runs up to now."""
        now = time.monotonic()
        self.seconds[self._running] = round(self.seconds.get(self._running, 0.0) + now - self._since, 3)
        self._since = now


@dataclass(frozen=True, slots=True)
class JobPipeline:
    """The whole work on a job, over the ports.

    at: called with "<step>:before" and "<step>:after" around every step; a test makes it kill the process.
    """

    store: ObjectStore
    egress: Egress
    engines: Mapping[str, Engine]
    at: Callable[[str], None] = lambda _: None

    def run(self, job: Job, progress: Progress) -> JobResult:
        """Make a job's artifacts and store them under its present attempt.

        Raises:
            InputRejected, EngineFailed, WorkerUnfit, JobStopped, StoreError: see their families.
        """
        require_writers(job.parameters)
        clock = StageTimer(progress)
        try:
            return self._make(job, clock)
        except GpuOutOfMemory:
            if (lower := _lower(job)) is None:
                raise
        log("job.lowered", job_id=job.id, attempt=job.attempt, pipeline_type=lower.parameters.pipeline_type)
        return replace(self._make(lower, clock), out_of_memory=True)

    def _make(self, job: Job, clock: StageTimer) -> JobResult:
        state = self._stored_state(job) if job.input.state else self._sampled_state(job, clock)
        product, poster = self._step("extract", lambda: self._extract(job, state, clock))
        files = {"model": ("model.glb", product.asset.glb), "poster": ("poster.webp", poster)}
        files |= {name: (FILENAMES[name], body) for name, body in product.other_formats.items()}
        if not job.input.state:
            files["state"] = ("state.safetensors", state.to_bytes())
        clock(Stage.STORE, 0.0)
        artifacts = self._step("store", lambda: self._store(job, files))
        measures = _measures(product)
        artifacts |= {name: artifacts[name].model_copy(update=measures) for name in MODELS & artifacts.keys()}
        clock(Stage.STORE, 1.0)
        clock.stop()
        return JobResult(artifacts, clock.seconds, product.checks, state.sampling_result)

    def _step(self, name: str, work: Callable[[], Result]) -> Result:
        self.at(f"{name}:before")
        result = work()
        self.at(f"{name}:after")
        return result

    def _sampled_state(self, job: Job, clock: StageTimer) -> State:
        body = self._step("fetch", lambda: self._fetch(job))
        picture: InputImage = self._step("prepare", lambda: image_decoder.decode(body))
        seed = job.parameters.seed
        if seed is None:
            raise AssertionError(f"job {job.id} was accepted without a seed")
        engine = self.engines[job.engine]
        return self._step("sample", lambda: engine.sample(picture, job.parameters, seed, clock))

    def _fetch(self, job: Job) -> bytes:
        if job.input.url:
            return self.egress.fetch(job.input.url, max_bytes=MAX_IMAGE_BYTES)
        if not job.input.key:
            raise ImageRejected("image_missing", "the picture of this job was deleted; submit it again")
        try:
            return self._read(job.input.key, job.input.bytes, job.input.sha256)
        except ObjectNotFound as error:
            raise ImageRejected("image_missing", "the picture of this job was deleted; submit it again") from error

    def _stored_state(self, job: Job) -> State:
        source = job.input.state
        assert source is not None  # noqa: S101 - what sent us here
        try:
            body = self._step("fetch", lambda: self._read(source.key, source.bytes, source.sha256))
        except ObjectNotFound as error:
            raise StateMissing("the state to extract again was deleted; generate the asset again") from error
        return State.from_bytes(body)

    def _read(self, key: str, size_bytes: int | None, sha256: str | None) -> bytes:
        """An object's bytes, if they are the ones that were recorded; read again where they are not."""
        for _ in range(READ_TRIES):
            body = self.store.get(key).body
            if size_bytes in (None, len(body)) and sha256 in (None, hashlib.sha256(body).hexdigest()):
                return body
        raise StoreUnavailable(f"the store gave other bytes than were recorded, {READ_TRIES} times")

    def _extract(self, job: Job, state: State, clock: StageTimer) -> tuple[ExportedAsset, bytes]:
        engine = self.engines.get(state.engine)
        if engine is None:
            raise StateMissing(f"the state was made by engine {state.engine}, which this worker does not have")
        surface = engine.decode(state, clock)
        clock(Stage.EXTRACT, 0.0)
        labels = Provenance(
            seed=job.parameters.seed or 0, generator=GENERATOR, custom_id=job.custom_id, engine=state.engine
        )
        product = export(
            surface,
            job.parameters,
            target_of(job.preset),
            provenance=labels,
            progress=lambda done: clock(Stage.EXTRACT, 0.9 * done),
            device=best_device(),
        )
        poster = render_poster(product.asset)
        clock(Stage.EXTRACT, 1.0)
        return product, poster

    def _store(self, job: Job, files: Mapping[str, tuple[str, bytes]]) -> dict[str, Artifact]:
        def put(filename: str, body: bytes) -> Artifact:
            key = keys.artifact(job.id, job.attempt, filename)
            content_type = CONTENT_TYPES[filename]
            self.store.put(key, body, content_type=content_type)
            return Artifact(
                key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest(), content_type=content_type
            )

        if empty := [filename for filename, body in files.values() if not body]:
            raise OutputInvalid(f"an empty {', '.join(empty)} is no result")
        with ThreadPoolExecutor(len(files)) as uploads:
            stored = uploads.map(lambda file: put(*file), files.values())
            return dict(zip(files, stored, strict=True))


def _lower(job: Job) -> Job | None:
    """The same job with less to compute, if its caller allows it and there is less to ask for."""
    wanted = job.parameters
    lower = LOWER_PIPELINE_TYPE.get(wanted.pipeline_type)
    if lower is None or not wanted.allow_degrade or job.input.state:
        return None
    return job.model_copy(update={"parameters": wanted.model_copy(update={"pipeline_type": lower})})


def _measures(product: ExportedAsset) -> dict[str, Any]:
    """What the records of the asset's files say of it."""
    asset = product.asset
    return {
        "triangles": asset.triangles,
        "vertices": asset.vertices,
        "texture_px": asset.texture_px,
        "dimensions_m": measure_sides_m(asset.mesh),
        "lowered": asset.degradations,
    }
