"""Composition of a JobRepository with all that follows from a job's changes: the one place that knows the listeners."""

import time
from collections.abc import Callable

from shared.domain.job import Job
from shared.domain.job_transitions import JobListener
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.caller_usage import ConcurrencySlots, UsageRepository
from shared.repositories.jobs import JobRepository
from shared.repositories.outbox import Outbox
from shared.storage import keys
from shared.storage.ports import ObjectStore


class ExpiryMarkers(JobListener):
    """Plan when what an ended job holds is to be deleted."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def on_finished(self, job: Job) -> bool:
        """Write the marker that `JobRepository.purge_expired` reads."""
        if job.expires_at and not job.purged_at:
            self._store.put(keys.expiring(job.expires_at, job.id, job.run_number), b"")
        return False


def build_job_repository(
    store: ObjectStore,
    *,
    announced: Callable[[], None] = lambda: None,
    pause: Callable[[float], None] = time.sleep,
) -> JobRepository:
    """Build the repository that every process uses.

    Args:
        store: where the records are.
        announced: called when a webhook is due.
        pause: waits between tries of a write, in seconds.
    """
    # The outbox last: it wakes the relay, which finds everything else written.
    listeners = (UsageRepository(store), RowStatusMarkers(store), ExpiryMarkers(store), Outbox(store))
    return JobRepository(store, slots=ConcurrencySlots(store), listeners=listeners, announced=announced, pause=pause)
