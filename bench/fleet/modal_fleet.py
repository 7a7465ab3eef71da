"""Simulate containers with threads that take inputs from the control plane and run the worker's invocations."""

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import modal

from api.submission.submitter import Submission, Submitter
from bench.fleet.control_plane.server import ControlPlane
from bench.support.memory_store import MemoryStore
from infra.modal_app.gpu_lock import GpuLease
from infra.modal_app.invocations import InvocationSender, ModalCalls, run_later
from infra.modal_app.queue import ModalQueue
from infra.modal_app.worker_container import WorkerContainer
from infra.observability.metrics import MeteredStore
from infra.queues.priority import FairScheduler
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
_names = (f"queue-{number}" for number in itertools.count())
CEILING = 4
Later = Callable[[float, Callable[[], None]], None]


def worker_function() -> modal.Function[..., Any, Any]:
    """Look up the deployed worker function."""
    return modal.Function.from_name("trellis2", "worker")


def notifier_function() -> modal.Function[..., Any, Any]:
    """Look up the deployed notifier function."""
    return modal.Function.from_name("trellis2", "notifier")


def new_queue_name() -> str:
    """Return an unused queue name."""
    return next(_names)


def build_modal_queue(
    name: str | None = None,
    *,
    ceiling: int = CEILING,
    bound_s: float = 1.8,
    later: Later = run_later,
    seconds: Callable[[], float] = time.monotonic,
    clears_stale: bool = False,
) -> ModalQueue:
    """Build the job queue of one process; without a name, an empty queue under a new name."""
    calls = ModalCalls(bound_s=bound_s)
    queue = modal.Queue.from_name(name or new_queue_name(), create_if_missing=True)
    invocations = InvocationSender(worker_function(), calls, ceiling=ceiling, later=later, monotonic=seconds)
    return ModalQueue(queue, invocations, calls, FairScheduler(), clears_stale=clears_stale)


class StoredImageSource:
    """An image source that is already validated."""

    def fingerprint(self) -> str:
        """Return the same fingerprint for every source."""
        return "image"

    def validate(self, store: ObjectStore, caller: str) -> Callable[[str], Input]:  # noqa: ARG002 - every caller's
        """Store a few bytes."""

        def put(job_id: str) -> Input:
            key = keys.job_input(job_id, "png")
            store.put(key, b"png")
            return Input(key=key, bytes=3, sha256=hashlib.sha256(b"png").hexdigest())

        return put


class SlowStore(MemoryStore):
    """A store with latency."""

    latency_s = 0.0

    def get(self, *args: Any, **options: Any) -> Any:
        """Read after `latency_s`."""
        time.sleep(self.latency_s)
        return super().get(*args, **options)

    def put(self, *args: Any, **options: Any) -> Any:
        """Write after `latency_s`."""
        time.sleep(self.latency_s)
        return super().put(*args, **options)


@dataclass
class Fleet:
    """A gateway, a queue over the network and containers over one store. `on_job` runs inside each job.

    The gateway, the reconciler and each container have their own queue object, as separate processes would.
    """

    control_plane: ControlPlane
    ceiling: int = 16
    on_job: Callable[[Job, Progress], None] = lambda _job, _progress: None
    store: SlowStore = field(default_factory=SlowStore)
    requests: Counter[str] = field(default_factory=Counter)
    claimed_at: dict[str, float] = field(default_factory=dict)
    run_counts: Counter[str] = field(default_factory=Counter)
    _threads: list[threading.Thread] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.metered = MeteredStore(self.store, lambda operation, _outcome, _s: self.requests.update([operation]))
        self.jobs = build_job_repository(self.metered, pause=lambda _: None)
        self.name = new_queue_name()
        self.queue = self.open_queue()
        self.submitter = Submitter(self.jobs, self.queue)
        self.reconciler = Reconciler(
            self.jobs, self.open_queue(bound_s=20.0), requeue_after_s=0.0, collects_garbage=lambda: False
        )
        self.unfit = threading.Event()
        self.out_of_memory = False  # whether each job ran in a degraded form because the GPU was full

    def open_queue(self, bound_s: float = 1.8) -> ModalQueue:
        """Open the queue as another process would."""
        return build_modal_queue(self.name, ceiling=self.ceiling, bound_s=bound_s)

    def build_container(self, name: str = "container") -> WorkerContainer:
        """Build a container with its workers."""
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

        return WorkerContainer(build, self.run_job, queue, self.unfit.set)

    def start(self, containers: int) -> None:
        """Start containers, each with as many threads as it runs invocations at once."""
        for number in range(containers):
            container = self.build_container(f"container-{number}")
            for _ in range(INVOCATIONS_PER_CONTAINER):
                thread = threading.Thread(target=self._run_inputs, args=(container,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Stop taking inputs and wait for the threads."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run_inputs(self, container: WorkerContainer) -> None:
        while not self._stopping.is_set():
            if self.control_plane.start_input(timeout_s=0.05):
                container.run_once()
                self.control_plane.finish_input()

    def submit(self, lane: Lane = Lane.STANDARD, caller: str = "alice") -> str:
        """Submit a job as the gateway does; return its id."""
        parameters = resolve({"seed": 1}, "low_poly")
        submission = Submission(
            caller=caller,
            route="/v1/jobs",
            source=StoredImageSource(),
            engine="relief",
            parameters=parameters,
            request=parameters,
            lane=lane,
        )
        return self.submitter.submit(submission).record.id

    def run_job(self, job: Job, progress: Progress) -> JobResult:
        """Record the claim, call `on_job`, and store three files as a real job does."""
        self.claimed_at.setdefault(job.id, time.monotonic())
        self.run_counts[job.id] += 1
        assert job.input.key is not None
        self.metered.get(job.input.key)
        progress(Stage.SHAPE, 0.5)
        self.on_job(job, progress)
        artifacts = {}
        for filename in FILES:
            key = keys.artifact(job.id, job.attempt, filename)
            self.metered.put(key, b"made")
            artifacts[filename.partition(".")[0]] = Artifact(key=key, bytes=4, sha256="-", content_type="-")
        return JobResult(artifacts, {"shape": 1.0}, out_of_memory=self.out_of_memory)

    def count_statuses(self) -> Counter[Status]:
        """Count jobs by status."""
        records = (entry.key for entry in self.store.list("jobs/") if entry.key.endswith("job.json"))
        return Counter(Job.model_validate_json(self.store.get(key).body).status for key in records)

    def wait_until_idle(self, within_s: float) -> None:
        """Wait until no job is unfinished. Raises TimeoutError."""
        until = time.monotonic() + within_s
        while any(True for _ in self.store.list(keys.PENDING)):
            if time.monotonic() > until:
                raise TimeoutError(f"jobs by status: {self.count_statuses()}")
            time.sleep(0.01)


def raise_unavailable(*_: object) -> None:
    """Act as a store that does not answer."""
    raise StoreUnavailable("no answer")
