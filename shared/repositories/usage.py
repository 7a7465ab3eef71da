"""What callers have used, as one empty object for each job that was charged: its name is the whole of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from shared.domain.job import Job, Status
from shared.storage import keys
from shared.storage.ports import ObjectStore


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """A sum over some jobs."""

    jobs: int = 0
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0


class UsageRepository:
    """Counts by caller and UTC day. Counting a job twice counts it once. Safe from any thread and process."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def count(self, job: Job) -> None:
        """Count a job that succeeded; one that cost nothing needs no counting."""
        if job.status is Status.SUCCEEDED and job.finished_at and (job.gpu_seconds or job.cost_usd):
            day = job.finished_at.astimezone(UTC).date()
            self._store.put(keys.usage(job.caller, day, job.id, job.gpu_seconds, job.cost_usd), b"")

    def of_day(self, caller: str, day: date) -> UsageTotal:
        """What a caller used on one day."""
        found = list(self._charges(caller, day))
        return UsageTotal(len(found), sum(gpu_s for gpu_s, _ in found), sum(usd for _, usd in found))

    def today(self, caller: str, now: datetime) -> UsageTotal:
        """What a caller has used since midnight UTC."""
        return self.of_day(caller, now.astimezone(UTC).date())

    def by_day(self, caller: str, *, since: date) -> dict[date, UsageTotal]:
        """What a caller used on each day from `since` on, where there was any: one listing, however many the days."""
        days: dict[date, UsageTotal] = {}
        for entry in self._store.list(keys.caller_usage(caller), after=keys.usage_folder(caller, since)):
            day, (gpu_s, usd) = keys.usage_day(entry.key), keys.read_usage(entry.key)
            so_far = days.get(day, UsageTotal())
            days[day] = UsageTotal(so_far.jobs + 1, so_far.gpu_seconds + gpu_s, so_far.cost_usd + usd)
        return days

    def _charges(self, caller: str, day: date) -> Iterator[tuple[float, float]]:
        for entry in self._store.list(keys.usage_folder(caller, day)):
            yield keys.read_usage(entry.key)
