"""Slots: how many jobs of one caller run at once, where its API key bounds that; and who is next when one is free.

A slot is an object that exists while its job runs, made by whoever claims the job. Each caller has slots of its own, so
that nobody else waits for them or writes to them. A job that finds none stays queued and leaves a marker: whoever
frees a slot next rings for it. What a dead worker has left in a slot, the sweeper clears.
"""

import secrets
from collections.abc import Mapping

from shared.domain.job import Job
from shared.errors import ObjectNotFound, PreconditionFailed, TransitionRefused
from shared.storage import keys
from shared.storage.ports import ObjectStore


class ConcurrencySlots:
    """The slots of all callers. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def reserve(self, job: Job) -> Job:
        """Find a slot for a job that is about to run; the job with its slot.

        Raises:
            TransitionRefused: as many run as may; the job is parked.
        """
        slot = self._take(job)
        if slot is None:
            marker = keys.blocked(job.caller, job.lane, job.id)
            self._store.put(marker, b"")
            slot = self._take(job)  # one that was freed before anybody could see the marker
            if slot is None:
                raise TransitionRefused(f"{job.running_limit} jobs of {job.caller} run, and no more may")
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
        """Give back the slot that a job's record names, if it is still that job's."""
        if job.slot is None:
            return
        key = f"{keys.running_of(job.caller)}{job.slot.partition('-')[0]}"
        if self._holder(key) == (job.id, job.slot):
            self._store.delete(key)

    def next_blocked(self, caller: str) -> str | None:
        """Take the marker of the caller's job that is to run next, by lane and age; its id."""
        for entry in self._store.list(keys.blocked_of(caller)):
            self._store.delete(entry.key)
            return keys.job_of_blocked(entry.key)
        return None

    def clear(self, running: Mapping[str, str | None], *, older_than_s: float) -> int:
        """Free the slots that none of the running jobs (id -> slot) names; how many.

        older_than_s: a younger one may be that of a job which was claimed just now.
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
