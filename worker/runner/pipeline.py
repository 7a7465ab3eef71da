"""The steps of one job: fetch its image, decode it, sample, extract, store the files."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from shared.domain.job import Artifact, Job, Stage
from shared.domain.parameters import MAX_IMAGE_BYTES, Format, target_of
from shared.errors import GpuOutOfMemory, ImageRejected, ObjectNotFound, OutputInvalid, StateMissing, StoreUnavailable
from shared.log import log
from shared.net.egress import Egress
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import LOWER_PIPELINE_TYPE, Engine, Progress, State
from worker.extraction import ExportedAsset, Provenance, export, require_writers
from worker.extraction.kernels.runtime import best_device
from worker.extraction.model.asset import measure_sides_m
from worker.extraction.render.poster import render_poster
from worker.runner import image_decoder
from worker.runner.job_function import CONTENT_TYPES, JobResult, StageTimer

Result = TypeVar("Result")

GENERATOR = "trellis2-service"
FILENAMES: dict[Format, str] = {"usdz": "model.usdz", "meshopt": "model.meshopt.glb"}
MODELS = {"model", *FILENAMES}  # the artifacts that hold the asset itself
READ_TRIES = 3  # of an object whose bytes differ from the recorded ones


@dataclass(frozen=True, slots=True)
class JobPipeline:
    """Runs every step of a job over the ports.

    at: called with "<step>:before" and "<step>:after" around each step; a test lets it kill the process.
    """

    store: ObjectStore
    egress: Egress
    engines: Mapping[str, Engine]
    at: Callable[[str], None] = lambda _: None

    def run(self, job: Job, progress: Progress) -> JobResult:
        """Make a job's artifacts and store them under its present attempt.

        A job that needs too much GPU memory runs once more with the next lower pipeline type, if its caller allows it.

        Raises:
            InputRejected, EngineFailed, WorkerUnfit, JobStopped, StoreError: as their classes say.
        """
        require_writers(job.parameters)
        timer = StageTimer()
        progress = progress.with_first(timer)
        try:
            return self._run_steps(job, progress, timer)
        except GpuOutOfMemory:
            if (lower := _lower(job)) is None:
                raise
        log("job.degraded", job_id=job.id, attempt=job.attempt, pipeline_type=lower.parameters.pipeline_type)
        return replace(self._run_steps(lower, progress, timer), out_of_memory=True)

    def _run_steps(self, job: Job, progress: Progress, timer: StageTimer) -> JobResult:
        state = self._stored_state(job) if job.input.state else self._sample(job, progress)
        product, poster = self._step("extract", lambda: self._extract(job, state, progress))
        files = {"model": ("model.glb", product.asset.glb), "poster": ("poster.webp", poster)}
        files |= {name: (FILENAMES[name], body) for name, body in product.other_formats.items()}
        if not job.input.state:
            files["state"] = ("state.safetensors", state.to_bytes())
        progress(Stage.STORE, 0.0)
        artifacts = self._step("store", lambda: self._store(job, files))
        measures = _measures(product)
        artifacts |= {name: artifacts[name].model_copy(update=measures) for name in MODELS & artifacts.keys()}
        progress(Stage.STORE, 1.0)
        timer.stop()
        return JobResult(artifacts, timer.seconds, product.checks, state.sampling_result)

    def _step(self, name: str, run: Callable[[], Result]) -> Result:
        self.at(f"{name}:before")
        result = run()
        self.at(f"{name}:after")
        return result

    def _sample(self, job: Job, progress: Progress) -> State:
        body = self._step("fetch", lambda: self._fetch(job))
        image = self._step("prepare", lambda: image_decoder.decode(body))
        seed = job.parameters.seed
        if seed is None:
            raise AssertionError(f"job {job.id} was accepted without a seed")
        engine = self.engines[job.engine]
        return self._step("sample", lambda: engine.sample(image, job.parameters, seed, progress))

    def _fetch(self, job: Job) -> bytes:
        if job.input.url:
            return self.egress.fetch(job.input.url, max_bytes=MAX_IMAGE_BYTES)
        deleted = ImageRejected("image_missing", "the image of this job was deleted: submit it again")
        if not job.input.key:
            raise deleted
        try:
            return self._read(job.input.key, job.input.bytes, job.input.sha256)
        except ObjectNotFound as error:
            raise deleted from error

    def _stored_state(self, job: Job) -> State:
        source = job.input.state
        assert source is not None  # noqa: S101 - the caller checked it
        try:
            body = self._step("fetch", lambda: self._read(source.key, source.bytes, source.sha256))
        except ObjectNotFound as error:
            raise StateMissing("the state to extract again was deleted; generate the asset again") from error
        return State.from_bytes(body)

    def _read(self, key: str, size_bytes: int | None, sha256: str | None) -> bytes:
        """Read an object, again while its bytes differ from the recorded ones.

        Raises:
            ObjectNotFound: there is no such object.
            StoreUnavailable: the bytes differed READ_TRIES times.
        """
        for _ in range(READ_TRIES):
            body = self.store.get(key).body
            if size_bytes in (None, len(body)) and sha256 in (None, hashlib.sha256(body).hexdigest()):
                return body
        raise StoreUnavailable(f"the store returned other bytes than were recorded, {READ_TRIES} times")

    def _extract(self, job: Job, state: State, progress: Progress) -> tuple[ExportedAsset, bytes]:
        engine = self.engines.get(state.engine)
        if engine is None:
            raise StateMissing(f"the state comes from engine {state.engine}, which this worker does not have")
        surface = engine.decode(state, progress)
        progress(Stage.EXTRACT, 0.0)
        provenance = Provenance(
            seed=job.parameters.seed or 0, generator=GENERATOR, custom_id=job.custom_id, engine=state.engine
        )
        product = export(
            surface,
            job.parameters,
            target_of(job.preset),
            provenance=provenance,
            progress=lambda done: progress(Stage.EXTRACT, 0.9 * done),
            device=best_device(),
        )
        poster = render_poster(product.asset)
        progress(Stage.EXTRACT, 1.0)
        return product, poster

    def _store(self, job: Job, files: Mapping[str, tuple[str, bytes]]) -> dict[str, Artifact]:
        """Upload the files (by artifact: file name and bytes) side by side; return their artifacts by name."""

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
    """Return the job with the next lower pipeline type; None if its caller forbids that or there is none."""
    parameters = job.parameters
    lower = LOWER_PIPELINE_TYPE.get(parameters.pipeline_type)
    if lower is None or not parameters.allow_degrade or job.input.state:
        return None
    return job.model_copy(update={"parameters": parameters.model_copy(update={"pipeline_type": lower})})


def _measures(product: ExportedAsset) -> dict[str, Any]:
    """Measure the asset for the artifacts of its files."""
    asset = product.asset
    return {
        "triangles": asset.triangles,
        "vertices": asset.vertices,
        "texture_px": asset.texture_px,
        "dimensions_m": measure_sides_m(asset.mesh),
        "lowered": asset.degradations,
    }
