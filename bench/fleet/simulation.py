"""Simulate a fleet of GPU containers for a day with a virtual clock, for `bench.fleet.report`.

The job repository, the queue, its invocations and the reconciler are the service's own; Modal's autoscaler, the bucket
and the work are simulated. A job waits for its invocation, its container's cold start and the GPU.
"""

import asyncio
import heapq
import itertools
import random
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import modal

from bench.fleet.costs import worker_usd_per_s
from bench.support.memory_store import MemoryStore
from infra.modal_app.gpu_lock import RELEASE_AT, SAMPLING
from infra.modal_app.invocations import InvocationSender, ModalCalls
from infra.modal_app.queue import PARTITION_ITEMS, ModalQueue
from infra.observability.metrics import MeteredStore
from infra.queues.priority import FairScheduler
from infra.settings.modal import INVOCATIONS_PER_CONTAINER
from shared.domain.job import STAGE_SHARES, Artifact, Input, Job, Lane, tier_of
from shared.domain.parameters import resolve
from shared.errors import QueueUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from shared.storage.versioned_records import Versioned
from worker.batches.scheduler import WINDOW
from worker.maintenance.reconciler import Reconciler

T = TypeVar("T")

DAY_S = 86_400.0
START = datetime(2026, 1, 1, tzinfo=UTC)
READS_PER_S = 400  # of records, by the eight threads of the reconciler, from a small Ceph
FILES = ("model.glb", "poster.webp", "state.safetensors")
DEQUEUE_BEFORE = (1 - RELEASE_AT) * (STAGE_SHARES[SAMPLING[-1]] / sum(STAGE_SHARES[stage] for stage in SAMPLING))


@dataclass(frozen=True)
class Day:
    """The traffic of a day and the seconds of each step. The defaults are `1024_cascade` with `web` on an A100."""

    singles_per_hour: float = 60.0  # one at a time, interactive, evenly over the day
    bursts: tuple[tuple[float, int], ...] = ((9.0, 150), (13.0, 150), (19.0, 150))  # hour, standard jobs at once
    catalog_at_h: float = 10.0
    catalog_rows: int = 10_000
    sample_s: float = 30.0
    extract_s: float = 15.0
    cold_s: float = 60.0
    scaledown_s: float = 120.0
    cores: float = 8.0
    memory_gib: float = 32.0
    gpu: str = "A100-80GB"
    window: int = WINDOW  # maximum unfinished rows, filled up once a minute
    length_s: float = DAY_S

    @property
    def usd_per_s(self) -> float:
        """US dollars per second of a container."""
        return worker_usd_per_s(self.gpu, cores=self.cores, gib=self.memory_gib)


@dataclass
class Container:
    """One container. It costs money from start to end; `gpu_free_at` is when the next job may sample."""

    started_at: float
    ready_at: float
    gpu_free_at: float = 0.0
    dequeue_at: float = 0.0  # when the next job may be dequeued: shortly before the current sampling ends
    invocations: int = 0
    idle_since: float = 0.0


@dataclass
class DayReport:
    """Results of a day. Waits are from submit to the start of sampling, seconds."""

    waits: dict[Lane, list[float]] = field(default_factory=lambda: defaultdict(list))
    catalog_waits: list[float] = field(default_factory=list)
    finished: int = 0
    cold_starts: int = 0
    container_s: float = 0.0
    gpu_s: float = 0.0
    max_pending: int = 0
    catalog_done_at: float | None = None
    requests: Counter[str] = field(default_factory=Counter)


class AioMethod:
    """A method of the SDK in its awaitable form."""

    def __init__(self, aio: Callable[..., Any]) -> None:
        self.aio = aio


class SimulatedQueue:
    """Partitions of ids."""

    def __init__(self) -> None:
        self._partitions: dict[str, deque[str]] = defaultdict(deque)
        self.put_many, self.get_many, self.len = AioMethod(self._put), AioMethod(self._get), AioMethod(self._len)
        self.iterate, self.clear = AioMethod(self._iterate), AioMethod(self._clear)

    async def _put(self, ids: list[str], *, block: bool, partition: str) -> None:
        assert not block
        if len(self._partitions[partition]) + len(ids) > PARTITION_ITEMS:
            raise QueueUnavailable("the lane is full")
        self._partitions[partition].extend(ids)

    async def _get(self, count: int, *, block: bool, partition: str) -> list[str]:
        assert not block
        waiting = self._partitions[partition]
        return [waiting.popleft() for _ in range(min(count, len(waiting)))]

    async def _clear(self, *, partition: str) -> None:
        self._partitions[partition].clear()

    async def _len(self, *, partition: str) -> int:
        return len(self._partitions[partition])

    async def _iterate(self, *, partition: str) -> AsyncIterator[str]:
        for job_id in list(self._partitions[partition]):
            yield job_id


class SimulatedFunction:
    """Waiting and running inputs. `on_spawn` is called after each spawn."""

    def __init__(self, on_spawn: Callable[[], None]) -> None:
        self._on_spawn = on_spawn
        self.waiting = self.running = 0
        self.spawn, self.get_current_stats = AioMethod(self._spawn), AioMethod(self._stats)

    async def _spawn(self) -> None:
        self.waiting += 1
        self._on_spawn()

    async def _stats(self) -> "SimulatedFunction":
        return self

    @property
    def backlog(self) -> int:
        """Count waiting inputs."""
        return self.waiting

    @property
    def num_running_inputs(self) -> int:
        """Count running inputs."""
        return self.running

    def begin(self) -> None:
        """Start a waiting input."""
        self.waiting -= 1
        self.running += 1

    def end(self) -> None:
        """End a running input."""
        self.running -= 1


class DirectCalls(ModalCalls):
    """Calls without a network: one event loop serves all."""

    _loop = asyncio.new_event_loop()

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:  # noqa: ARG002 - none is late
        """Run a call to its end."""
        return self._loop.run_until_complete(call())


class Simulation:
    """A day of one fleet."""

    def __init__(self, day: Day, workers: int, seed: int = 1) -> None:
        self.day = day
        self.workers = workers
        self.report = DayReport()
        self.now_s = 0.0
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._request_kind = "job"
        self._bucket = MemoryStore(lambda: START + timedelta(seconds=self.now_s))
        self.store = MeteredStore(
            self._bucket, lambda *_: self.report.requests.update([self._request_kind]), monotonic=self._monotonic
        )
        self.jobs = build_job_repository(self.store, pause=lambda _: None)
        self.function = SimulatedFunction(self._assign_inputs)
        calls = DirectCalls(monotonic=self._monotonic)
        ceiling = workers * INVOCATIONS_PER_CONTAINER
        invocations = InvocationSender(
            self.function, calls, ceiling=ceiling, monotonic=self._monotonic, later=self._later
        )
        modal_queue = cast(modal.Queue, SimulatedQueue())
        self.queue = ModalQueue(modal_queue, invocations, calls, FairScheduler())
        reconciler_queue = ModalQueue(modal_queue, invocations, calls, FairScheduler(), clears_stale=True)
        self.reconciler = Reconciler(self.jobs, reconciler_queue, collects_garbage=lambda: False, queue_ttl_s=2 * DAY_S)
        self.containers: list[Container] = []
        self.running: dict[str, Versioned[Job]] = {}
        self.submitted_at: dict[str, float] = {}
        self.rows_left = 0
        self.rows: set[str] = set()
        self.measured: set[str] = set()
        self.waiting_interactive: set[str] = set()  # interactive jobs
        self.unfinished: Counter[Lane] = Counter()  # each lane is one caller's

    def _monotonic(self) -> float:
        return self.now_s

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now_s + seconds, next(self._order), act))

    def run(self) -> DayReport:
        """Simulate the day."""
        gap_s = 3_600 / self.day.singles_per_hour
        for at in itertools.takewhile(lambda at: at < self.day.length_s, itertools.count(gap_s / 2, gap_s)):
            self._later(at + self._random.uniform(-gap_s / 2, gap_s / 2), lambda: self._submit(Lane.INTERACTIVE))
        for hour, job_list in self.day.bursts:
            for _ in range(job_list):
                self._later(hour * 3_600 + self._random.uniform(0, 60), lambda: self._submit(Lane.STANDARD))
        self._later(self.day.catalog_at_h * 3_600, self._submit_catalog)
        for minute in range(1, int(self.day.length_s / 60)):
            self._later(minute * 60.0, self._reconcile)
        while self._events and self._events[0][0] <= self.day.length_s:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        self.now_s = self.day.length_s
        for container in self.containers:
            self.report.container_s += self.now_s - container.started_at
        return self.report

    @contextmanager
    def _counting_requests_as(self, payer: str) -> Iterator[None]:
        before, self._request_kind = self._request_kind, payer
        yield
        self._request_kind = before

    # --- the gateway

    def _submit(self, lane: Lane) -> str:
        now = self.jobs.now()
        job_id = keys.new_id("job", now)
        parameters = resolve({"seed": 1}, "web")
        key = keys.job_input(job_id, "png")
        job = Job(
            id=job_id,
            caller=f"caller-{lane}",
            lane=lane,
            engine="trellis",
            parameters=parameters,
            input=Input(key=key),
            created_at=now,
            queued_at=now,
        )
        self.jobs.reserve(job)
        self.store.put(key, b"png")
        self.jobs.create(job)
        self.submitted_at[job_id] = self.now_s
        if lane is Lane.INTERACTIVE:
            if self._is_busy_with_catalog() and not self.waiting_interactive:
                self.measured.add(job_id)
            self.waiting_interactive.add(job_id)
        tier = tier_of(self.unfinished[lane])
        self.unfinished[lane] += 1
        with suppress(QueueUnavailable):  # the reconciler enqueues it
            self.queue.enqueue([job_id], lane, tier=tier)
        return job_id

    def _is_busy_with_catalog(self) -> bool:
        """Say whether rows wait and the fleet is warm."""
        began_s = (
            self.day.catalog_at_h * 3_600 + 60 + self.day.cold_s
        )  # the first rows come with the next reconciliation
        return self.now_s > began_s and any(row not in self.running for row in self.rows)

    # --- the reconciler, and the batch scheduler

    def _reconcile(self) -> None:
        with self._counting_requests_as("renewal"):  # every ten seconds in the service, once a minute here
            for job_id, held in self.running.items():
                self.running[job_id] = self.jobs.renew(held, stage=None, progress=0.0)
        with self._counting_requests_as("reconciler"):
            reconciled = self.reconciler.reconcile()
        self.report.max_pending = max(self.report.max_pending, reconciled.pending)
        for _ in range(min(self.rows_left, self.day.window - len(self.rows))):
            self.rows_left -= 1
            self.rows.add(self._submit(Lane.BATCH))

    def _submit_catalog(self) -> None:
        self.rows_left = self.day.catalog_rows

    # --- Modal's autoscaler, and the containers

    def _assign_inputs(self) -> None:
        """Assign inputs to containers with free capacity; start containers for the rest, up to the limit."""
        while self.function.waiting:
            free = [container for container in self.containers if container.invocations < INVOCATIONS_PER_CONTAINER]
            if ready := next((container for container in free if container.ready_at <= self.now_s), None):
                self.function.begin()
                ready.invocations += 1
                self._later(0.0, lambda container=ready: self._run_invocation(container))  # type: ignore[misc]
                continue
            starting = sum(INVOCATIONS_PER_CONTAINER - container.invocations for container in free)
            if starting < self.function.waiting and len(self.containers) < self.workers:
                self._start_container()
                continue
            return

    def _start_container(self) -> None:
        self.report.cold_starts += 1
        container = Container(self.now_s, self.now_s + self.day.cold_s, idle_since=self.now_s + self.day.cold_s)
        self.containers.append(container)
        self._later(self.day.cold_s, self._assign_inputs)
        self._later(self.day.cold_s + self.day.scaledown_s, lambda: self._scale_down(container))

    def _scale_down(self, container: Container) -> None:
        if container not in self.containers:
            return
        if container.invocations or self.now_s - container.idle_since < self.day.scaledown_s - 1e-6:
            return
        self.containers.remove(container)
        self.report.container_s += self.now_s - container.started_at

    def _run_invocation(self, container: Container) -> None:
        if self.now_s < container.dequeue_at:
            self._later(container.dequeue_at - self.now_s, lambda: self._run_invocation(container))
            return
        job_id = self.queue.dequeue()
        # No worker renews leases here, so a job that already runs must not be claimed again.
        held = self.jobs.claim(job_id, "worker") if job_id and job_id not in self.running else None
        if held is None:
            self._end_invocation(container)
            return
        self.store.get(keys.job_input(held.record.id, "png"))
        samples_at = max(self.now_s, container.gpu_free_at)
        container.gpu_free_at = samples_at + self.day.sample_s
        container.dequeue_at = container.gpu_free_at - DEQUEUE_BEFORE * self.day.sample_s
        self.report.gpu_s += self.day.sample_s
        waited_s = samples_at - self.submitted_at[held.record.id]
        self.report.waits[held.record.lane].append(waited_s)
        self.waiting_interactive.discard(held.record.id)
        if held.record.id in self.measured:
            self.report.catalog_waits.append(waited_s)
        self.running[held.record.id] = held
        ends_at = samples_at + self.day.sample_s + self.day.extract_s
        self._later(ends_at - self.now_s, lambda: self._finish(container, held.record.id))

    def _finish(self, container: Container, job_id: str) -> None:
        held = self.running.pop(job_id)
        artifacts = {}
        for filename in FILES:
            key = keys.artifact(job_id, held.record.attempt, filename)
            self.store.put(key, b"")
            artifacts[filename.partition(".")[0]] = Artifact(key=key, bytes=0, sha256="-", content_type="-")
        self.jobs.succeed(held, artifacts=artifacts, timings={})
        self.unfinished[held.record.lane] -= 1
        self._delete_objects(held.record)
        self.report.finished += 1
        if job_id in self.rows:
            self.rows.remove(job_id)
            if not self.rows and not self.rows_left:
                self.report.catalog_done_at = self.now_s
        self._end_invocation(container)

    def _delete_objects(self, job: Job) -> None:
        """Delete what is not read again: a dict with the objects of a day would be slow to list."""
        files = (keys.artifact(job.id, job.attempt, filename) for filename in FILES)
        marker = keys.caller_marker(job.caller, job.id)
        for key in (keys.job_record(job.id), keys.job_input(job.id, "png"), marker, *files):
            self._bucket.delete(key)

    def _end_invocation(self, container: Container) -> None:
        self.queue.spawn_next()
        container.invocations -= 1
        self.function.end()
        container.idle_since = self.now_s
        self._later(self.day.scaledown_s, lambda: self._scale_down(container))
        self._assign_inputs()
