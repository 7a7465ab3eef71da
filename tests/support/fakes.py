"""Fakes at the ports, each small and named for what it does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from bench.support.memory_store import MemoryStore
from shared.domain.job import Input, Job, Lane, Stage
from shared.domain.parameters import resolve
from shared.errors import QueueUnavailable, StoreUnavailable
from shared.storage import keys
from worker.engine import Progress, ProgressListener


@dataclass
class ManualClock:
    """A clock that stands still until it is moved."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time, aware UTC."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.at += timedelta(seconds=seconds)


@dataclass
class Seconds:
    """A monotonic clock that stands still until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        """The seconds so far."""
        return self.now


@dataclass
class LossyStore(MemoryStore):
    """A store that obeys `before_put` and `after_put`: either may raise, the second after the put was done."""

    clock: Callable[[], datetime] = field(default_factory=ManualClock)
    before_put: Callable[[str], None] = lambda _: None
    after_put: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        """Begin empty."""
        super().__init__(self.clock)

    def put(self, key: str, body: bytes | BinaryIO, **conditions: Any) -> str:
        """Put between the two hooks."""
        self.before_put(key)
        etag = super().put(key, body, **conditions)
        self.after_put(key)
        return etag


def losing(times: int) -> Callable[[str], None]:
    """A hook that raises StoreUnavailable for its first `times` calls about a job record."""
    left = [times]

    def hook(key: str) -> None:
        if key.endswith("job.json") and left[0] > 0:
            left[0] -= 1
            raise StoreUnavailable("the answer was lost")

    return hook


@dataclass
class ListQueue:
    """A doorbell that shows its rings, and can be told to fail."""

    enqueued: list[str] = field(default_factory=list)
    is_down: bool = False

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:  # noqa: ARG002 - one list for all
        """Note the ids."""
        if self.is_down:
            raise QueueUnavailable("the queue is down")
        self.enqueued.extend(job_ids)

    def dequeue(self) -> str | None:
        """The oldest id."""
        return self.enqueued.pop(0) if self.enqueued else None


def new_job(now: datetime, **fields: Any) -> Job:
    """A valid job as a submit makes it."""
    plain = {
        "id": keys.new_id("job", now),
        "caller": "alice",
        "engine": "relief",
        "parameters": resolve({"seed": 1}, "game"),
        "input": Input(key="jobs/x/input.png"),
        "created_at": now,
        "queued_at": now,
    }
    return Job(**{**plain, **fields})


def submitted(jobs: Any, **fields: Any) -> Job:
    """A job that the ledger has accepted."""
    job = new_job(jobs.now(), **fields)
    jobs.reserve(job)
    return jobs.create(job).record


def no_pause(_: float) -> None:
    """Waits for nothing."""


def keys_under(store: MemoryStore, prefix: str) -> Iterator[str]:
    """What the store holds there."""
    return (entry.key for entry in store.list(prefix))


class CallingListener(ProgressListener):
    """A listener that calls a function with each report."""

    def __init__(self, function: Callable[[Stage, float], object]) -> None:
        self._function = function

    def on_stage(self, stage: Stage, fraction: float) -> None:
        """Call it."""
        self._function(stage, fraction)


def progress_to(function: Callable[[Stage, float], object]) -> Progress:
    """A job's progress that calls a function with each report."""
    return Progress(CallingListener(function))
