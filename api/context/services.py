"""The dependencies of a gateway process, and the services that it keeps between requests."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from cachetools import TTLCache

from api.limits.api_keys import ApiKeyCache
from api.limits.quotas import Admission, TokenBuckets
from api.middleware.body_limit import RequestLimits
from api.queue.estimate import Estimates
from api.queue.job_counts import JobCounts
from api.results.rows import BatchResults
from api.submission.batch_submitter import BatchSubmitter
from api.submission.group_commit import GroupCommitExecutor, GroupCommitLimits
from api.submission.submitter import EndpointCache, Submitter
from shared.domain.parameters import FORMATS, Format
from shared.errors import StoreError, StoreUnavailable, UrlUnreachable
from shared.net.egress import Egress
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.repositories.outbox import Outbox
from shared.repositories.webhooks import DeliveryRepository, EndpointRepository
from shared.storage.ports import JobQueue, ObjectStore

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BODIES = 2  # large JSON bodies in memory at once
READERS = 8  # job records of a batch that are read at once
LOOKUPS = 4  # concurrent DNS lookups
PROBE_KEY = "probe/gateway"
PROBE_BODY = b"ready"
PROBE_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the composition root passes to the gateway.

    Attributes:
        engines: engines that a job may name; the first is the default.
        formats: formats that the workers can write.
        receivers: egress for webhook URLs, if not `egress`.
        public_url: the gateway's own URL, without a slash at its end; None to use each request's Host.
        parallel_jobs: how many jobs run at once, for estimates.
        threads: maximum of concurrent store calls.
        group_commit: how submits share the wait for the store.
        checkpoint: called with a name at each point of a submit where a crash matters (for tests).
        batches_changed: called when the batch scheduler has work, to wake it.
        monotonic, sleep, pause: clock, async sleep and blocking sleep of everything that waits.
    """

    store: ObjectStore
    jobs: JobRepository
    queue: JobQueue
    egress: Egress
    engines: tuple[str, ...]
    formats: tuple[Format, ...] = FORMATS
    receivers: Egress | None = None
    public_url: str | None = None
    parallel_jobs: int = 1
    threads: int = 16
    group_commit: GroupCommitLimits = field(default_factory=GroupCommitLimits)
    limits: RequestLimits = field(default_factory=RequestLimits)
    checkpoint: Callable[[str], None] = lambda _: None
    batches_changed: Callable[[], None] = lambda: None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    pause: Callable[[float], None] = time.sleep


class ReadinessProbe:
    """Write to the store and read it back, at most once in PROBE_TTL_S."""

    def __init__(self, store: ObjectStore, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last: TTLCache[str, StoreError | None] = TTLCache(1, PROBE_TTL_S, timer=monotonic)

    def error(self) -> StoreError | None:
        """Return the error of the last probe, or None if the store works. Concurrent callers wait for one probe."""
        with self._lock:
            if PROBE_KEY not in self._last:
                self._last[PROBE_KEY] = self._probe()
            return self._last[PROBE_KEY]

    def _probe(self) -> StoreError | None:
        try:
            self._store.put(PROBE_KEY, PROBE_BODY)
            if self._store.get(PROBE_KEY).body == PROBE_BODY:
                return None
        except StoreError as error:
            return error
        return StoreUnavailable("the store returned other bytes than were written")


class Services:
    """The repositories, caches and thread pools of one gateway process."""

    def __init__(self, deps: Dependencies) -> None:
        self.deps = deps
        self.jobs = deps.jobs
        self.store = deps.store
        self.api_keys = ApiKeyCache(deps.store, monotonic=deps.monotonic)
        self.estimates = Estimates(deps.jobs, parallel_jobs=deps.parallel_jobs, monotonic=deps.monotonic)
        self.endpoints = EndpointRepository(deps.store)
        self.deliveries = DeliveryRepository(deps.store)
        self.outbox = Outbox(deps.store)
        self.endpoint_cache = EndpointCache(self.endpoints, monotonic=deps.monotonic)
        self.token_buckets = TokenBuckets(monotonic=deps.monotonic)
        self._counting = ThreadPoolExecutor(1, thread_name_prefix="counting")
        job_counts = JobCounts(deps.jobs, monotonic=deps.monotonic, executor=self._counting.submit)
        self.admission = Admission(deps.jobs, job_counts, monotonic=deps.monotonic)
        self.submitter = Submitter(
            deps.jobs,
            deps.queue,
            has_endpoints=self.endpoint_cache.has_endpoints,
            admit=self.admission.admit,
            position_of_next=job_counts.position_of_next,
            checkpoint=deps.checkpoint,
            pause=deps.pause,
        )
        self.batches = BatchRepository(deps.store)
        self.row_statuses = RowStatusMarkers(deps.store)
        self.batch_submitter = BatchSubmitter(self.batches, pause=deps.pause)
        self.readiness = ReadinessProbe(deps.store, monotonic=deps.monotonic)
        self._threads = ThreadPoolExecutor(deps.threads, thread_name_prefix="gateway")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="results")
        self.results = BatchResults(deps.jobs, self.row_statuses, self._readers)
        self.group_commits = GroupCommitExecutor(deps.store, self._threads, deps.group_commit)
        # A slow name server must not block store calls.
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        # An allocator keeps memory that a thread has freed: only a small number of threads bounds it.
        self._parsers = ThreadPoolExecutor(LARGE_BODIES, thread_name_prefix="parser")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in one of the gateway's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def parse_large(self, parse: Callable[[], T]) -> T:
        """Run a function that holds a large body in memory; at most LARGE_BODIES run at once."""
        return await asyncio.get_running_loop().run_in_executor(self._parsers, parse)

    async def check_url(self, url: str) -> None:
        """Raise UrlUnreachable if a URL must not be fetched."""
        await asyncio.get_running_loop().run_in_executor(self._lookups, self.deps.egress.check, url)

    async def check_receiver(self, url: str, *, pointer: str) -> None:
        """Raise UrlUnreachable if webhooks must not be sent to a URL."""
        egress = self.deps.receivers or self.deps.egress
        try:
            await asyncio.get_running_loop().run_in_executor(self._lookups, egress.check, url)
        except UrlUnreachable as error:
            raise UrlUnreachable("webhooks cannot be sent to this URL", pointer=pointer) from error

    def close(self) -> None:
        """Shut the thread pools down; running functions finish."""
        for threads in (self._threads, self._readers, self._lookups, self._parsers, self._counting):
            threads.shutdown(wait=False)
