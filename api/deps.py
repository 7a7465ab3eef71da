"""What the gateway is given, and what it makes of it once per process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request

from api.api_keys import Keyring
from api.estimate import Estimates
from api.limits import Limits
from api.store_probe import StoreProbe
from api.submit import Submitter
from shared.egress import Egress
from shared.ledger import Ledger
from shared.ports import JobQueue, ObjectStore

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything from outside.

    engines: names that a job may ask for; the first is the default. public_url: where clients reach the gateway,
    without a slash at its end; None to go by each request's Host. parallel_jobs: how many jobs run at once, for
    estimates. threads: how many store calls go on at once. checkpoint: called with a name at each point of a submit
    where a crash matters. monotonic and sleep are the clock of everything that waits.
    """

    store: ObjectStore
    ledger: Ledger
    queue: JobQueue
    egress: Egress
    engines: tuple[str, ...]
    public_url: str | None = None
    parallel_jobs: int = 1
    threads: int = 8
    limits: Limits = field(default_factory=Limits)
    checkpoint: Callable[[str], None] = lambda _: None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


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
        self.large_bodies = asyncio.Semaphore(2)

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


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    return cast(Gateway, request.app.state.gateway)


async def _gateway(request: Request) -> Gateway:
    return gateway_of(request)


TheGateway = Annotated[Gateway, Depends(_gateway)]
