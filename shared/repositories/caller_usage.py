"""What one caller uses: how many of its jobs run at once, and GPU time and cost by day.

A concurrency slot is an object that exists while its job runs, created by the claim of the job. Each caller has slots
of its own, so that no other caller waits for them or writes to them. A job that gets none stays queued and leaves a
marker; the worker that frees a slot enqueues it. The reconciler frees the slots of dead workers.

Usage is one empty object for each job that was charged; its name holds all data.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from shared.domain.job import Job, Status
from shared.domain.job_transitions import JobListener
from shared.errors import ObjectNotFound, PreconditionFailed, TransitionRefused
from shared.storage import keys
from shared.storage.ports import ObjectStore


class ConcurrencySlots:
    """The slots of all callers. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def reserve(self, job: Job) -> Job:
        """Reserve a slot for a job that is about to run; return the job with its slot.

        Raises:
            TransitionRefused: all slots are taken; the job is marked as blocked.
        """
        slot = self._take(job)
        if slot is None:
            marker = keys.blocked(job.caller, job.lane, job.id)
            self._store.put(marker, b"")
            slot = self._take(job)  # one that was freed before the marker could be seen
            if slot is None:
                raise TransitionRefused(f"{job.running_limit} jobs of {job.caller} run already, which is its limit")
            self._store.delete(marker)
        return job.model_copy(update={"slot": slot})

    def _take(self, job: Job) -> str | None:
        folder = keys.running_of(job.caller)
        taken = {entry.key for entry in self._store.list(folder)}
        for number in range(job.running_limit or 0):
            key = f"{folder}{number}"
            if key in taken:
                continue
            token = secrets.token_hex(4)
            try:
                self._store.put(key, f"{job.id}.{number}-{token}".encode(), if_absent=True)
            except PreconditionFailed:
                continue
            return f"{number}-{token}"
        return None

    def free(self, job: Job) -> None:
        """Free the slot in a job's record, if that job still holds it."""
        if job.slot is None:
            return
        key = f"{keys.running_of(job.caller)}{job.slot.partition('-')[0]}"
        if self._holder(key) == (job.id, job.slot):
            self._store.delete(key)

    def next_blocked(self, caller: str) -> str | None:
        """Delete the marker of the caller's blocked job that is to run next, by lane and age; return its id."""
        for entry in self._store.list(keys.blocked_of(caller)):
            self._store.delete(entry.key)
            return keys.job_of_marker(entry.key)
        return None

    def clear(self, running: Mapping[str, str | None], *, older_than_s: float) -> int:
        """Free the slots that no running job holds; return how many.

        Args:
            running: job id -> slot of every running job.
            older_than_s: a younger slot may belong to a job that was claimed just now.
        """
        now, cleared = self._store.now(), 0
        for entry in self._store.list(keys.RUNNING):
            if (now - entry.modified_at).total_seconds() <= older_than_s:
                continue
            holder = self._holder(entry.key)
            if holder and running.get(holder[0]) != holder[1]:
                self._store.delete(entry.key)
                cleared += 1
        return cleared

    def _holder(self, key: str) -> tuple[str, str] | None:
        try:
            job_id, _, slot = self._store.get(key).body.decode().partition(".")
        except ObjectNotFound:
            return None
        return job_id, slot


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """A sum over some jobs."""

    jobs: int = 0
    gpu_seconds: float = 0.0
    cost_usd: float = 0.0


class UsageRepository(JobListener):
    """Usage by caller and UTC day. Counting a job twice counts it once. Safe from any thread and process."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def on_finished(self, job: Job) -> bool:
        """Count a job that succeeded and cost something."""
        if job.status is Status.SUCCEEDED and job.finished_at and (job.gpu_seconds or job.cost_usd):
            day = job.finished_at.astimezone(UTC).date()
            self._store.put(keys.usage(job.caller, day, job.id, job.gpu_seconds, job.cost_usd), b"")
        return False

    def today(self, caller: str, now: datetime) -> UsageTotal:
        """Return what a caller has used since midnight UTC."""
        folder = keys.usage_folder(caller, now.astimezone(UTC).date())
        charges = [keys.read_usage(entry.key) for entry in self._store.list(folder)]
        return UsageTotal(len(charges), sum(gpu_s for gpu_s, _ in charges), sum(usd for _, usd in charges))

    def by_day(self, caller: str, *, since: date) -> dict[date, UsageTotal]:
        """Return what a caller used on each day from `since` on, without empty days: one listing for all of them."""
        days: dict[date, UsageTotal] = {}
        for entry in self._store.list(keys.caller_usage(caller), after=keys.usage_folder(caller, since)):
            day, (gpu_s, usd) = keys.usage_day(entry.key), keys.read_usage(entry.key)
            so_far = days.get(day, UsageTotal())
            days[day] = UsageTotal(so_far.jobs + 1, so_far.gpu_seconds + gpu_s, so_far.cost_usd + usd)
        return days
