"""Whether a caller may submit one more job: how many are unfinished, and what the day has cost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from api.limits.quotas import CallerLimits
from api.queue.job_counts import JobCounts
from shared.errors import BudgetSpent, TooManyJobs
from shared.repositories.caller_usage import UsageRepository, UsageTotal
from shared.repositories.jobs import JobRepository

USAGE_S = 5.0  # how old a day's sum may be
MAX_CALLERS = 10_000
RETRY_S = 5.0  # when to try again with a full queue


class Admission:
    """Looks before a job is made. Safe from any thread.

    What this process has admitted since it last counted is counted too, so that only other gateways, and only for as
    long as a count is believed, can admit a job too many.
    """

    def __init__(self, jobs: JobRepository, open_jobs: JobCounts, *, monotonic: Callable[[], float]) -> None:
        self._jobs = jobs
        self._open_jobs = open_jobs
        self._usage = UsageRepository(jobs.store)
        self._monotonic = monotonic
        self._used: dict[str, tuple[UsageTotal, float]] = {}

    def admit(self, caller: str, limits: CallerLimits) -> None:
        """Let a job be made, and count it.

        Raises:
            TooManyJobs: the caller has as many unfinished ones as it may have.
            BudgetSpent: the caller's day has cost as much as it may.
        """
        self._require_budget(caller, limits)
        most = limits.unfinished_jobs
        if most is not None and not self._open_jobs.admit(caller, most):
            raise TooManyJobs(f"{most} of your jobs are unfinished, and no more may be", retry_after_s=RETRY_S)

    def _require_budget(self, caller: str, limits: CallerLimits) -> None:
        if limits.gpu_seconds_per_day is None and limits.usd_per_day is None:
            return
        now = self._jobs.now()
        used = self._used_today(caller, now)
        for name, has_used, may in (
            ("GPU seconds", used.gpu_seconds, limits.gpu_seconds_per_day),
            ("US dollars", used.cost_usd, limits.usd_per_day),
        ):
            if may is not None and has_used >= may:
                raise BudgetSpent(f"today's {may:g} {name} are used", retry_after_s=_until_midnight_s(now))

    def _used_today(self, caller: str, now: datetime) -> UsageTotal:
        seen = self._used.get(caller)
        if seen is None or self._monotonic() - seen[1] >= USAGE_S:
            if len(self._used) >= MAX_CALLERS:
                self._used.clear()
            seen = (self._usage.today(caller, now), self._monotonic())
            self._used[caller] = seen
        return seen[0]


def _until_midnight_s(now: datetime) -> float:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1) - now).total_seconds()
