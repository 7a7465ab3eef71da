"""Quotas of a caller: its limits, the request rate, and the admission of one more job."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cachetools import TTLCache
from pydantic import Field

from api.queue.job_counts import JobCounts
from shared.domain.job import Record
from shared.errors import BudgetSpent, TooManyJobs
from shared.repositories.caller_usage import UsageRepository, UsageTotal
from shared.repositories.jobs import JobRepository

USAGE_TTL_S = 5.0  # maximum age of a cached sum of today's usage
MAX_CALLERS = 10_000
RETRY_S = 5.0  # Retry-After of a caller that has reached unfinished_jobs


class CallerLimits(Record):
    """Limits that an API key carries; None means no limit.

    Attributes:
        requests_per_s: refill rate of a token bucket in each gateway process.
        burst: size of that bucket: how many requests may arrive at once.
        unfinished_jobs: maximum of queued and running jobs.
        running_jobs: maximum of running jobs; the others stay queued and do not block other callers.
        gpu_seconds_per_day, usd_per_day: maximum usage of jobs that succeeded since midnight UTC, checked before a new
            job is accepted.
        keep_days: how long a job is kept after its end, with its image and its results.
    """

    requests_per_s: Annotated[float | None, Field(gt=0)] = 20.0
    burst: Annotated[int, Field(ge=1)] = 100
    unfinished_jobs: Annotated[int | None, Field(ge=0)] = 1_000
    running_jobs: Annotated[int | None, Field(ge=1, le=1_000)] = None
    gpu_seconds_per_day: Annotated[float | None, Field(ge=0)] = None
    usd_per_day: Annotated[float | None, Field(ge=0)] = None
    keep_days: Annotated[float | None, Field(gt=0, le=36_500)] = None

    @property
    def keep_s(self) -> float | None:
        """Return keep_days in seconds."""
        return None if self.keep_days is None else self.keep_days * 86_400


UNLIMITED = CallerLimits(requests_per_s=None, unfinished_jobs=None)


@dataclass(frozen=True, slots=True)
class RateLimitResult:
    """The result for one request; `retry_after_s` is 0 if it may pass."""

    burst: int
    per_s: float
    remaining: int
    retry_after_s: float

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10); w and t in seconds."""
        window_s = math.ceil(self.burst / self.per_s)
        full_in_s = math.ceil((self.burst - self.remaining) / self.per_s)
        return [
            (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (self.burst, window_s)),
            (b"ratelimit", b'"requests";r=%d;t=%d' % (self.remaining, full_in_s)),
        ]


class TokenBuckets:
    """One token bucket for each caller. Thread-safe."""

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}  # when each bucket will be full again

    def take(self, caller: str, limits: CallerLimits) -> RateLimitResult | None:
        """Take one token; return None if the caller has no rate limit. A refused request takes none."""
        if limits.requests_per_s is None:
            return None
        per_s, now = limits.requests_per_s, self._monotonic()
        with self._lock:
            if len(self._full_at) >= MAX_CALLERS:
                self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            full_at = max(self._full_at.get(caller, now), now) + 1 / per_s
            missing = (full_at - now) * per_s
            if missing > limits.burst + 1e-9:
                return RateLimitResult(limits.burst, per_s, 0, (missing - limits.burst) / per_s)
            self._full_at[caller] = full_at
            return RateLimitResult(limits.burst, per_s, math.floor(limits.burst - missing + 1e-9), 0.0)


class Admission:
    """Check a caller's quotas before a job is accepted. Thread-safe.

    Jobs that this process has admitted since the last count are included, so only other gateways can admit a job too
    many, and only while a count is cached.
    """

    def __init__(self, jobs: JobRepository, job_counts: JobCounts, *, monotonic: Callable[[], float]) -> None:
        self._jobs = jobs
        self._job_counts = job_counts
        self._usage = UsageRepository(jobs.store)
        self._used: TTLCache[str, UsageTotal] = TTLCache(MAX_CALLERS, USAGE_TTL_S, timer=monotonic)
        self._lock = threading.Lock()

    def admit(self, caller: str, limits: CallerLimits) -> None:
        """Admit one more job and count it.

        Raises:
            TooManyJobs: the caller has reached its limit of unfinished jobs.
            BudgetSpent: the caller has reached its usage limit of today.
        """
        self._require_budget(caller, limits)
        limit = limits.unfinished_jobs
        if limit is not None and not self._job_counts.admit(caller, limit):
            raise TooManyJobs(f"{limit} of your jobs are unfinished; that is your limit", retry_after_s=RETRY_S)

    def _require_budget(self, caller: str, limits: CallerLimits) -> None:
        if limits.gpu_seconds_per_day is None and limits.usd_per_day is None:
            return
        now = self._jobs.now()
        used = self._used_today(caller, now)
        for unit, amount, limit in (
            ("GPU seconds", used.gpu_seconds, limits.gpu_seconds_per_day),
            ("US dollars", used.cost_usd, limits.usd_per_day),
        ):
            if limit is not None and amount >= limit:
                raise BudgetSpent(f"today's limit of {limit:g} {unit} is reached", retry_after_s=_until_midnight_s(now))

    def _used_today(self, caller: str, now: datetime) -> UsageTotal:
        with self._lock:
            cached = self._used.get(caller)
        if cached is None:
            cached = self._usage.today(caller, now)
            with self._lock:
                self._used[caller] = cached
        return cached


def _until_midnight_s(now: datetime) -> float:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1) - now).total_seconds()
