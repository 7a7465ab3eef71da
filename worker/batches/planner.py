"""Plan a batch: read its manifest, validate every row, probe every image, and estimate what the batch needs.

Rows are written in segments, each once. A planner that is killed leaves whole segments; the next planner reads the
manifest from its start again, which costs little, and continues with the first row that is not planned.
"""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

from shared.domain.batch import SEGMENT_ROWS, Batch, BatchError, BatchStatus, planned, unreadable
from shared.errors import InputRejected, ParameterInvalid
from shared.log import log
from shared.manifest.reader import column_names, manifest_rows, open_images
from shared.manifest.row import MAX_ROWS
from shared.net.egress import Egress
from shared.repositories.batch_estimates import Prices, estimate_batch
from shared.repositories.batch_rows import Row, write_segment
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from worker.batches.image_probe import ImageProbe
from worker.batches.row_validator import RowValidator

LEASE = timedelta(seconds=30)  # a planner that is silent for longer is replaced by another one
PROBE_THREADS = 32


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans batches, one at a time. engines: those that rows may name. at: called at crash points."""

    batches: BatchRepository
    jobs: JobRepository
    egress: Egress
    engines: Collection[str]
    prices: Prices = field(default_factory=Prices)
    probe_threads: int = PROBE_THREADS
    at: Callable[[str], None] = lambda _: None

    def plan(self, batch: Batch, *, may_continue: Callable[[], bool] = lambda: True) -> bool:
        """Plan the rest of a batch; False if another planner holds it, or `may_continue` ended it after a segment.

        Raises:
            StoreError: the store does not answer; the planned segments are kept.
        """
        claimed = self._claim(batch.id)
        if claimed is None:
            return False
        try:
            is_complete = self._plan_rows(claimed, may_continue)
        except InputRejected as error:
            self._fail(claimed, error)
            return True
        if is_complete:
            self._finish(claimed.id)
        else:
            self.batches.change(claimed.id, lambda _: {"planner_until": None})
        return is_complete

    def _claim(self, batch_id: str) -> Batch | None:
        """Claim a batch for LEASE; None if another planner holds it or it is not to be planned."""
        is_claimed = False

        def claim(batch: Batch) -> dict[str, Any] | None:
            nonlocal is_claimed
            now = self.batches.now()
            is_held = bool(batch.planner_until and now < batch.planner_until)
            is_claimed = batch.status is BatchStatus.PLANNING and not is_held
            return {"planner_until": now + LEASE} if is_claimed else None

        batch = self.batches.change(batch_id, claim)
        return batch if is_claimed else None

    def _plan_rows(self, batch: Batch, may_continue: Callable[[], bool]) -> bool:
        store = self.batches.store
        images = open_images(store, batch.id, batch.file) if batch.file.images_bytes else None
        if batch.planned == 0:
            columns = column_names(store, batch.id, batch.file)
            self.batches.change(batch.id, lambda _: {"columns": tuple(columns)})
        rows = islice(manifest_rows(store, batch.id, batch.file), batch.planned, None)
        with (
            ImageProbe(store, self.egress, batch.caller, images) as probe,
            ThreadPoolExecutor(self.probe_threads, thread_name_prefix="probe") as threads,
        ):
            validator = RowValidator(batch, self.jobs, probe, self.engines)
            while segment := list(islice(rows, SEGMENT_ROWS)):
                if segment[-1].number >= MAX_ROWS:
                    detail = f"the manifest has more than {MAX_ROWS:,} rows: split it"
                    raise ParameterInvalid(detail, pointer="/manifest")
                validated = list(threads.map(validator.validate, segment))
                self.at("segment:before")
                if not self._write_segment(batch.id, validated) or not may_continue():
                    return False
                self.at("segment:after")
        return True

    def _write_segment(self, batch_id: str, rows: list[Row]) -> bool:
        """Add a segment to the plan, once; False if the batch is not to be planned any more."""
        written = write_segment(self.batches.store, batch_id, rows)

        def add(batch: Batch) -> dict[str, Any] | None:
            if batch.status is not BatchStatus.PLANNING or batch.planned != written[0].number:
                return None
            return {
                "planned": batch.planned + len(written),
                "invalid": batch.invalid + sum(bool(row.errors) for row in written),
                "reused": batch.reused + sum(row.reused is not None and not row.errors for row in written),
                "planner_until": self.batches.now() + LEASE,
            }

        batch = self.batches.change(batch_id, add)
        return batch is not None and batch.status is BatchStatus.PLANNING and batch.planned == written[-1].number + 1

    def _finish(self, batch_id: str) -> None:
        batch = self.batches.find(batch_id)
        if batch is None or batch.status is not BatchStatus.PLANNING:
            return
        if batch.planned == 0:
            self._fail(batch, ParameterInvalid("the manifest has no rows", pointer="/manifest"))
            return
        estimate = estimate_batch(self.batches.store, self.jobs, batch, self.prices)
        done = self.batches.change(batch_id, lambda present: planned(present, self.batches.now(), estimate))
        if done:
            log("batch.planned", batch_id=done.id, rows=done.planned, invalid=done.invalid, reused=done.reused)

    def _fail(self, batch: Batch, error: InputRejected) -> None:
        problem = BatchError(code="manifest_invalid", detail=str(error))
        self.batches.change(batch.id, lambda present: unreadable(present, self.batches.now(), problem))
        log("batch.failed", batch_id=batch.id, code=problem.code)
