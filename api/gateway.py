"""What one gateway process keeps between requests: its caches and its threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from api.api_keys import Keyring
from api.deps import Deps
from api.estimate import Estimates
from api.store_probe import StoreProbe
from api.submit import Submitter

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BODIES = 2  # JSON bodies that may be in memory at once


class Gateway:
    """One process's gateway: its dependencies, its caches and its threads."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps
        self.ledger = deps.ledger
        self.store = deps.store
        self.keyring = Keyring(deps.store, monotonic=deps.monotonic)
        self.estimates = Estimates(deps.ledger, parallel_jobs=deps.parallel_jobs, monotonic=deps.monotonic)
        self.submitter = Submitter(deps.ledger, deps.queue, checkpoint=deps.checkpoint)
        self.store_probe = StoreProbe(deps.store, monotonic=deps.monotonic)
        self._threads = ThreadPoolExecutor(deps.threads, thread_name_prefix="gateway")
        # Name servers answer when they like: their waiting must not hold up store calls.
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookup")
        self.large_bodies = asyncio.Semaphore(LARGE_BODIES)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in one of the gateway's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    async def check_url(self, url: str) -> None:
        """Refuse a URL that may not be fetched. Raises UrlUnreachable."""
        await asyncio.get_running_loop().run_in_executor(self._lookups, self.deps.egress.check, url)

    def close(self) -> None:
        """Let the threads go; those at work finish."""
        self._threads.shutdown(wait=False)
        self._lookups.shutdown(wait=False)
