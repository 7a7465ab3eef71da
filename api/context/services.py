"""What one gateway process keeps between requests: its caches and its threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from api.context.deps import Dependencies
from api.context.readiness import ReadinessProbe
from api.limits.admission import Admission
from api.limits.api_keys import ApiKeyCache
from api.limits.rate_limiter import TokenBuckets
from api.queue.estimate import Estimates
from api.queue.job_counts import JobCounts
from api.results.rows import BatchResults
from api.submission.batch_submitter import BatchSubmitter
from api.submission.endpoint_cache import EndpointCache
from api.submission.group_commit import GroupCommitExecutor
from api.submission.submitter import Submitter
from shared.errors import UrlUnreachable
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.batches import BatchRepository
from shared.repositories.outbox import Outbox
from shared.repositories.webhooks import DeliveryRepository, EndpointRepository

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BODIES = 2  # JSON bodies that may be in memory at once
READERS = 8  # records of a batch's jobs that are read at once
LOOKUPS = 4  # names that may be looked up at once


class Services:
    """One process's gateway: its dependencies, its caches and its threads."""

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
        open_jobs = JobCounts(deps.jobs, monotonic=deps.monotonic, executor=self._counting.submit)
        self.admission = Admission(deps.jobs, open_jobs, monotonic=deps.monotonic)
        self.submitter = Submitter(
            deps.jobs,
            deps.queue,
            has_endpoints=self.endpoint_cache.has_endpoints,
            admit=self.admission.admit,
            position_of_next=open_jobs.position_of_next,
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
        # Name servers answer when they like: their waiting must not hold up store calls.
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        # An allocator keeps what a thread has freed, so that few threads, not only few at a time, bound the memory.
        self._parsers = ThreadPoolExecutor(LARGE_BODIES, thread_name_prefix="parser")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in one of the gateway's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def parse_large(self, parse: Callable[[], T]) -> T:
        """Run what holds a large body in memory, when one of LARGE_BODIES places is free."""
        return await asyncio.get_running_loop().run_in_executor(self._parsers, parse)

    async def check_url(self, url: str) -> None:
        """Refuse a URL that may not be fetched. Raises UrlUnreachable."""
        await asyncio.get_running_loop().run_in_executor(self._lookups, self.deps.egress.check, url)

    async def check_receiver(self, url: str, *, pointer: str) -> None:
        """Refuse a URL that no webhook may go to. Raises UrlUnreachable."""
        egress = self.deps.receivers or self.deps.egress
        try:
            await asyncio.get_running_loop().run_in_executor(self._lookups, egress.check, url)
        except UrlUnreachable as error:
            raise UrlUnreachable("webhooks cannot be sent to this URL", pointer=pointer) from error

    def close(self) -> None:
        """Let the threads go; those at work finish."""
        for threads in (self._threads, self._readers, self._lookups, self._parsers, self._counting):
            threads.shutdown(wait=False)
