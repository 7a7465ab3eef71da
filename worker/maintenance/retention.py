"""What a sweep must not erase, though its time is over: exports and batches are still at work with it."""

from collections import defaultdict

from shared.domain.job import Job
from shared.repositories.batch_rows import read_rows
from shared.repositories.batches import BatchRepository


class Retention:
    """The needs of one sweep. What batches need is looked up only once something is to be erased."""

    def __init__(self, batches: BatchRepository) -> None:
        self._batches = batches
        self._sources: set[str] = set()
        self._live: set[str] | None = None
        self._reused: dict[str, set[str]] = {}

    def note(self, source_id: str) -> None:
        """Note in which job's folder the state lies that an unfinished export needs."""
        self._sources.add(source_id)

    def is_referenced(self, job: Job) -> bool:
        """Whether a job's results are needed: by an export, its own batch, or one that has them for a row."""
        if job.id in self._sources:
            return True
        if self._live is None:
            self._look()
        assert self._live is not None  # noqa: S101 - just seen to
        return job.batch_id in self._live or job.id in self._reused.get(job.caller, ())

    def _look(self) -> None:
        live: set[str] = set()
        reused: dict[str, set[str]] = defaultdict(set)
        for batch in self._batches.unfinished():
            live.add(batch.id)
            if batch.reused:
                rows = read_rows(self._batches.store, batch, 0, batch.planned)
                reused[batch.caller] |= {row.reused for row in rows if row.reused}
        self._live, self._reused = live, dict(reused)
