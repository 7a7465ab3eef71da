"""A fleet of GPU containers for a day, by a virtual clock: what `bench.fleet.report` reports of.

The ledger, the queue, its tickets and the sweeper are the service's own; Modal's autoscaler, the bucket and the work
are played. A job waits for its ticket, its container's cold start and its turn on the GPU.
"""

import asyncio
import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import modal

from bench.fleet.costs import worker_usd_per_s
from bench.fleet.modal_stubs import PlayedFunction, PlayedQueue
from bench.support.memory_store import MemoryStore
from infra.modal_app.gpu_lock import RELEASE_AT, SAMPLING
from infra.modal_app.invocations import InvocationSender, ModalCalls
from infra.modal_app.queue import ModalQueue
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
READS_PER_S = 400  # of records, by the eight threads of a sweep, from a small Ceph
FILES = ("model.glb", "poster.webp", "state.safetensors")
TAKEN_BEFORE = (1 - RELEASE_AT) * (STAGE_SHARES[SAMPLING[-1]] / sum(STAGE_SHARES[stage] for stage in SAMPLING))


@dataclass(frozen=True)
class Day:
    """Who asks for what, and how long things take, seconds. The defaults are `1024_cascade` with `web` on an A100."""

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
    window: int = WINDOW  # rows in hand at most, filled up once a minute
    length_s: float = DAY_S

    @property
    def usd_per_s(self) -> float:
        """What a second of a container costs."""
        return worker_usd_per_s(self.gpu, cores=self.cores, gib=self.memory_gib)


@dataclass
class Container:
    """One container. It is paid for from its start to its end; `gpu_free_at` is when the next job may sample."""

    started_at: float
    ready_at: float
    gpu_free_at: float = 0.0
    turn_at: float = 0.0  # when the next job may be taken: shortly before the one before has sampled
    tickets: int = 0
    idle_since: float = 0.0


@dataclass
class Seen:
    """What a day showed. Waits are from submit to the begin of sampling, seconds."""

    waits: dict[Lane, list[float]] = field(default_factory=lambda: defaultdict(list))
    beside_catalog: list[float] = field(default_factory=list)
    done: int = 0
    cold_starts: int = 0
    container_s: float = 0.0
    gpu_s: float = 0.0
    most_open: int = 0
    catalog_done_at: float | None = None
    requests: Counter[str] = field(default_factory=Counter)


class DirectCalls(ModalCalls):
    """Nothing here waits for a network: one event loop serves all calls."""

    _loop = asyncio.new_event_loop()

    def run(self, call: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:  # noqa: ARG002 - none is late
        """Make a call."""
        return self._loop.run_until_complete(call())


class Simulation:
    """One fleet's day."""

    def __init__(self, day: Day, workers: int, seed: int = 1) -> None:
        self.day = day
        self.workers = workers
        self.seen = Seen()
        self.now_s = 0.0
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._payer = "job"
        self._bucket = MemoryStore(lambda: START + timedelta(seconds=self.now_s))
        self.store = MeteredStore(
            self._bucket, lambda *_: self.seen.requests.update([self._payer]), monotonic=self._monotonic
        )
        self.jobs = build_job_repository(self.store, pause=lambda _: None)
        self.function = PlayedFunction(self._dispatch)
        calls = DirectCalls(monotonic=self._monotonic)
        ceiling = workers * INVOCATIONS_PER_CONTAINER
        tickets = InvocationSender(self.function, calls, ceiling=ceiling, monotonic=self._monotonic, later=self._later)
        played = cast(modal.Queue, PlayedQueue())
        self.queue = ModalQueue(played, tickets, calls, FairScheduler())
        sweeping = ModalQueue(played, tickets, calls, FairScheduler(), clears_stale=True)
        self.sweeper = Reconciler(self.jobs, sweeping, collects_garbage=lambda: False, queue_ttl_s=2 * DAY_S)
        self.containers: list[Container] = []
        self.running: dict[str, Versioned[Job]] = {}
        self.submitted_at: dict[str, float] = {}
        self.rows_left = 0
        self.rows: set[str] = set()
        self.lone: set[str] = set()
        self.not_begun: set[str] = set()  # interactive jobs
        self.unfinished: Counter[Lane] = Counter()  # each lane is one caller's

    def _monotonic(self) -> float:
        return self.now_s

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now_s + seconds, next(self._order), act))

    def run(self) -> Seen:
        """Play the day."""
        gap_s = 3_600 / self.day.singles_per_hour
        for at in itertools.takewhile(lambda at: at < self.day.length_s, itertools.count(gap_s / 2, gap_s)):
            self._later(at + self._random.uniform(-gap_s / 2, gap_s / 2), lambda: self._submit(Lane.INTERACTIVE))
        for hour, job_list in self.day.bursts:
            for _ in range(job_list):
                self._later(hour * 3_600 + self._random.uniform(0, 60), lambda: self._submit(Lane.STANDARD))
        self._later(self.day.catalog_at_h * 3_600, self._take_catalog)
        for minute in range(1, int(self.day.length_s / 60)):
            self._later(minute * 60.0, self._sweep)
        while self._events and self._events[0][0] <= self.day.length_s:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        self.now_s = self.day.length_s
        for container in self.containers:
            self.seen.container_s += self.now_s - container.started_at
        return self.seen

    @contextmanager
    def _paid_by(self, payer: str) -> Iterator[None]:
        before, self._payer = self._payer, payer
        yield
        self._payer = before

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
            if self._is_busy_with_catalog() and not self.not_begun:
                self.lone.add(job_id)
            self.not_begun.add(job_id)
        wave = tier_of(self.unfinished[lane])
        self.unfinished[lane] += 1
        with suppress(QueueUnavailable):  # the sweeper rings
            self.queue.enqueue([job_id], lane, tier=wave)
        return job_id

    def _is_busy_with_catalog(self) -> bool:
        """Whether rows wait and the fleet is warm."""
        began_s = self.day.catalog_at_h * 3_600 + 60 + self.day.cold_s  # the first rows come with the next sweep
        return self.now_s > began_s and any(row not in self.running for row in self.rows)

    # --- the sweeper, and the planner that feeds a batch

    def _sweep(self) -> None:
        with self._paid_by("renewal"):  # each ten seconds, in truth; here when somebody looks
            for job_id, held in self.running.items():
                self.running[job_id] = self.jobs.renew(held, stage=None, progress=0.0)
        with self._paid_by("sweep"):
            swept = self.sweeper.reconcile()
        self.seen.most_open = max(self.seen.most_open, swept.pending)
        for _ in range(min(self.rows_left, self.day.window - len(self.rows))):
            self.rows_left -= 1
            self.rows.add(self._submit(Lane.BATCH))

    def _take_catalog(self) -> None:
        self.rows_left = self.day.catalog_rows

    # --- Modal's autoscaler, and the containers

    def _dispatch(self) -> None:
        """Give inputs to containers with a free place; start containers for the others, up to the ceiling."""
        while self.function.waiting:
            free = [one for one in self.containers if one.tickets < INVOCATIONS_PER_CONTAINER]
            if ready := next((one for one in free if one.ready_at <= self.now_s), None):
                self.function.begin()
                ready.tickets += 1
                self._later(0.0, lambda container=ready: self._run_ticket(container))  # type: ignore[misc]
                continue
            coming = sum(INVOCATIONS_PER_CONTAINER - one.tickets for one in free)
            if coming < self.function.waiting and len(self.containers) < self.workers:
                self._start_container()
                continue
            return

    def _start_container(self) -> None:
        self.seen.cold_starts += 1
        container = Container(self.now_s, self.now_s + self.day.cold_s, idle_since=self.now_s + self.day.cold_s)
        self.containers.append(container)
        self._later(self.day.cold_s, self._dispatch)
        self._later(self.day.cold_s + self.day.scaledown_s, lambda: self._scale_down(container))

    def _scale_down(self, container: Container) -> None:
        if container not in self.containers:
            return
        if container.tickets or self.now_s - container.idle_since < self.day.scaledown_s - 1e-6:
            return
        self.containers.remove(container)
        self.seen.container_s += self.now_s - container.started_at

    def _run_ticket(self, container: Container) -> None:
        if self.now_s < container.turn_at:
            self._later(container.turn_at - self.now_s, lambda: self._run_ticket(container))
            return
        job_id = self.queue.dequeue()
        # Nothing renews leases here, as workers do: so nobody may find that one is over.
        held = self.jobs.claim(job_id, "worker") if job_id and job_id not in self.running else None
        if held is None:
            self._end_ticket(container)
            return
        self.store.get(keys.job_input(held.record.id, "png"))
        samples_at = max(self.now_s, container.gpu_free_at)
        container.gpu_free_at = samples_at + self.day.sample_s
        container.turn_at = container.gpu_free_at - TAKEN_BEFORE * self.day.sample_s
        self.seen.gpu_s += self.day.sample_s
        waited_s = samples_at - self.submitted_at[held.record.id]
        self.seen.waits[held.record.lane].append(waited_s)
        self.not_begun.discard(held.record.id)
        if held.record.id in self.lone:
            self.seen.beside_catalog.append(waited_s)
        self.running[held.record.id] = held
        ends_at = samples_at + self.day.sample_s + self.day.extract_s
        self._later(ends_at - self.now_s, lambda: self._settle(container, held.record.id))

    def _settle(self, container: Container, job_id: str) -> None:
        held = self.running.pop(job_id)
        artifacts = {}
        for filename in FILES:
            key = keys.artifact(job_id, held.record.attempt, filename)
            self.store.put(key, b"")
            artifacts[filename.partition(".")[0]] = Artifact(key=key, bytes=0, sha256="-", content_type="-")
        self.jobs.succeed(held, artifacts=artifacts, timings={})
        self.unfinished[held.record.lane] -= 1
        self._forget(held.record)
        self.seen.done += 1
        if job_id in self.rows:
            self.rows.remove(job_id)
            if not self.rows and not self.rows_left:
                self.seen.catalog_done_at = self.now_s
        self._end_ticket(container)

    def _forget(self, job: Job) -> None:
        """Nobody asks for it again, and a dict with a day's objects would be slow to list; no real bucket is."""
        files = (keys.artifact(job.id, job.attempt, filename) for filename in FILES)
        marker = keys.caller_marker(job.caller, job.id)
        for key in (keys.job_record(job.id), keys.job_input(job.id, "png"), marker, *files):
            self._bucket.delete(key)

    def _end_ticket(self, container: Container) -> None:
        self.queue.spawn_next()
        container.tickets -= 1
        self.function.end()
        container.idle_since = self.now_s
        self._later(self.day.scaledown_s, lambda: self._scale_down(container))
        self._dispatch()
