"""Containers played by threads: they take inputs from the control plane and run the worker's tickets on them."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.submission.submitter import Submission, Submitter
from bench.fleet.control_plane.control_plane import ControlPlane
from bench.fleet.modal_queues import a_modal_queue, a_name
from bench.support.memory_store import MemoryStore
from infra.modal_app.gpu_lock import GpuLease
from infra.modal_app.queue import ModalQueue
from infra.modal_app.worker_container import WorkerContainer
from infra.observability.metrics import MeteredStore
from infra.settings.modal import INVOCATIONS_PER_CONTAINER
from shared.domain.job import Artifact, Input, Job, Lane, Stage, Status
from shared.domain.parameters import resolve
from shared.errors import StoreUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import Progress
from worker.maintenance.reconciler import Reconciler
from worker.runner.job_function import JobFunction, JobResult
from worker.runner.worker import CrashIsolation, Worker

FILES = ("model.glb", "poster.webp", "state.safetensors")


class APicture:
    """A source that has been judged already."""

    def fingerprint(self) -> str:
        """All of them are equal."""
        return "picture"

    def validate(self, store: ObjectStore, caller: str) -> Callable[[str], Input]:  # noqa: ARG002 - every caller's
        """Store a few bytes."""

        def put(job_id: str) -> Input:
            key = keys.job_input(job_id, "png")
            store.put(key, b"png")
            return Input(key=key, bytes=3, sha256=hashlib.sha256(b"png").hexdigest())

        return put


class SlowStore(MemoryStore):
    """A store some milliseconds away."""

    latency_s = 0.0

    def get(self, *args: Any, **options: Any) -> Any:
        """Read, after a while."""
        time.sleep(self.latency_s)
        return super().get(*args, **options)

    def put(self, *args: Any, **options: Any) -> Any:
        """Write, after a while."""
        time.sleep(self.latency_s)
        return super().put(*args, **options)


@dataclass
class Fleet:
    """A gateway's submits, a queue over the wire, and containers, all over one store. `act` is the work on a job.

    Gateway, reconciler and each container have a doorbell of their own, as processes would.
    """

    plane: ControlPlane
    ceiling: int = 16
    act: Callable[[Job, Progress], None] = lambda _job, _progress: None
    store: SlowStore = field(default_factory=SlowStore)
    requests: Counter[str] = field(default_factory=Counter)
    began: dict[str, float] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    _threads: list[threading.Thread] = field(default_factory=list)
    _leaving: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.metered = MeteredStore(self.store, lambda operation, _outcome, _s: self.requests.update([operation]))
        self.jobs = build_job_repository(self.metered, pause=lambda _: None)
        self.name = a_name()
        self.queue = self.open_queue()
        self.submitter = Submitter(self.jobs, self.queue)
        self.reconciler = Reconciler(
            self.jobs, self.open_queue(bound_s=20.0), requeue_after_s=0.0, collects_garbage=lambda: False
        )
        self.unfit = threading.Event()
        self.ran_out = False  # whether each job found room only for less than was asked

    def open_queue(self, bound_s: float = 1.8) -> ModalQueue:
        """One more process's doorbell."""
        return a_modal_queue(self.name, ceiling=self.ceiling, bound_s=bound_s)

    def container(self, name: str = "container") -> WorkerContainer:
        """One container with its workers."""
        queue = self.open_queue()

        def build(work: JobFunction, number: int, gpu: GpuLease, isolation: CrashIsolation) -> Worker:
            return Worker(
                jobs=self.jobs,
                queue=queue,
                work=work,
                name=f"{name}-{number}",
                listeners=(gpu.listen,),
                isolation=isolation,
            )

        return WorkerContainer(build, self.work, queue, self.unfit.set)

    def start(self, containers: int) -> None:
        """Let containers take inputs, as many at a time as a container has tickets."""
        for number in range(containers):
            container = self.container(f"container-{number}")
            for _ in range(INVOCATIONS_PER_CONTAINER):
                thread = threading.Thread(target=self._take_inputs, args=(container,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._leaving.set()
        for thread in self._threads:
            thread.join()

    def _take_inputs(self, container: WorkerContainer) -> None:
        while not self._leaving.is_set():
            if self.plane.next_input(timeout_s=0.05):
                container.run_once()
                self.plane.input_done()

    def submit(self, lane: Lane = Lane.STANDARD, caller: str = "alice") -> str:
        """One submit, as the gateway makes it; its job's id."""
        parameters = resolve({"seed": 1}, "low_poly")
        wish = Submission(
            caller=caller,
            route="/v1/jobs",
            source=APicture(),
            engine="relief",
            parameters=parameters,
            request=parameters,
            lane=lane,
        )
        return self.submitter.submit(wish).record.id

    def work(self, job: Job, progress: Progress) -> JobResult:
        """Note the claim, act, and store three files, as the real work does."""
        self.began.setdefault(job.id, time.monotonic())
        self.runs[job.id] += 1
        assert job.input.key is not None
        self.metered.get(job.input.key)
        progress(Stage.SHAPE, 0.5)
        self.act(job, progress)
        made = {}
        for filename in FILES:
            key = keys.artifact(job.id, job.attempt, filename)
            self.metered.put(key, b"made")
            made[filename.partition(".")[0]] = Artifact(key=key, bytes=4, sha256="-", content_type="-")
        return JobResult(made, {"shape": 1.0}, out_of_memory=self.ran_out)

    def statuses(self) -> Counter[Status]:
        """How many jobs stand where."""
        records = (entry.key for entry in self.store.list("jobs/") if entry.key.endswith("job.json"))
        return Counter(Job.model_validate_json(self.store.get(key).body).status for key in records)

    def wait_until_idle(self, within_s: float) -> None:
        """Return once no job is open. Raises TimeoutError."""
        until = time.monotonic() + within_s
        while any(True for _ in self.store.list(keys.PENDING)):
            if time.monotonic() > until:
                raise TimeoutError(f"jobs stand at {self.statuses()}")
            time.sleep(0.01)


def unavailable(*_: object) -> None:
    """An act during which the store goes silent."""
    raise StoreUnavailable("no answer")
