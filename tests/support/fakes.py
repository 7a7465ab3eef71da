"""Fakes at the ports."""

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
    """A clock that only the test moves; gives aware UTC."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.at += timedelta(seconds=seconds)


@dataclass
class Seconds:
    """A monotonic clock that only the test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@dataclass
class LossyStore(MemoryStore):
    """A store that calls `before_put` and `after_put` around each put; either may raise."""

    clock: Callable[[], datetime] = field(default_factory=ManualClock)
    before_put: Callable[[str], None] = lambda _: None
    after_put: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        """Start empty."""
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
    """A queue that shows what is enqueued, and raises while `is_down`."""

    enqueued: list[str] = field(default_factory=list)
    is_down: bool = False

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:  # noqa: ARG002 - one list for all
        """Keep the ids."""
        if self.is_down:
            raise QueueUnavailable("the queue is down")
        self.enqueued.extend(job_ids)

    def dequeue(self) -> str | None:
        """Return the oldest id."""
        return self.enqueued.pop(0) if self.enqueued else None


def new_job(now: datetime, **fields: Any) -> Job:
    """Create a valid job as a submit does."""
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
    """Submit a job to a repository."""
    job = new_job(jobs.now(), **fields)
    jobs.reserve(job)
    return jobs.create(job).record


def no_pause(_: float) -> None:
    """Do not wait."""


def keys_under(store: MemoryStore, prefix: str) -> Iterator[str]:
    """List the keys under a prefix."""
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
