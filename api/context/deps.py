"""What the gateway is given from outside."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from api.limits.request_limits import RequestLimits
from api.submission.group_commit import GroupCommitLimits
from shared.domain.parameters import FORMATS, Format
from shared.net.egress import Egress
from shared.repositories.jobs import JobRepository
from shared.storage.ports import JobQueue, ObjectStore


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything from outside.

    engines: names that a job may ask for; the first is the default. formats: what the workers can make.
    receivers: the way to webhooks' URLs, if not `egress`. public_url: where clients reach the gateway, without a slash
    at its end; None to go by each request's Host. parallel_jobs: how many jobs run at once, for estimates. threads: how
    many store calls go on at once. turns: how submits share the waits for the store.
    checkpoint: called with a name at each point of a submit where a crash matters. batches_changed: called when there
    is something for whoever tends batches, to wake it. monotonic, sleep and pause are the
    clock of everything that waits: pause in threads.
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
