"""The worker's side under test: one worker whose jobs do what a test says, and a reconciler, over a store in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.support.memory_store import MemoryStore
from shared.domain.job import Artifact, Job, Stage
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import ListQueue, ManualClock, keys_under, no_pause, submitted
from worker.engine import Progress
from worker.maintenance.reconciler import DAY_S, Reconciler
from worker.runner.job_function import JobResult
from worker.runner.lease import Lease
from worker.runner.worker import Worker

Act = Callable[[Job, Lease], None]


@dataclass
class WorkerHarness:
    """A job repository, a queue, a reconciler, and a worker that performs one of `acts` in each attempt."""

    clock: ManualClock = field(default_factory=ManualClock)
    queue: ListQueue = field(default_factory=ListQueue)
    acts: list[Act] = field(default_factory=list)
    queue_ttl_s: float = DAY_S

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.worker = Worker(jobs=self.jobs, queue=self.queue, work=self.work, name="worker", usd_per_s=0.5)
        self.reconciler = Reconciler(self.jobs, self.queue, queue_ttl_s=self.queue_ttl_s)

    def work(self, job: Job, _progress: Progress) -> JobResult:
        """Store a model and perform the next act."""
        key = keys.artifact(job.id, job.attempt, "model.glb")
        self.store.put(key, b"glb")
        if self.acts:
            lease = self.worker._lease
            assert lease is not None
            self.acts.pop(0)(job, lease)
        return JobResult(
            {"model": Artifact(key=key, bytes=3, sha256="-", content_type="model/gltf-binary")}, {"shape": 2.0}
        )

    def run(self, *acts: Act) -> Job:
        """Submit and enqueue a job, run the worker once, and read the job."""
        self.acts = list(acts)
        job = submitted(self.jobs)
        self.queue.enqueue([job.id], job.lane)
        self.worker.run_once()
        return self.jobs.read(job.id).record

    def artifacts(self) -> list[str]:
        """List the attempts' files in the store, as `<attempt>/<name>`."""
        return [key.split("/", 2)[2] for key in keys_under(self.store, "jobs/") if key.endswith(".glb")]


def failing(error: Exception) -> Act:
    """Make an act that raises."""

    def act(_job: Job, lease: Lease) -> None:
        lease.on_stage(Stage.SHAPE, 0.5)
        lease.heartbeat()
        raise error

    return act
