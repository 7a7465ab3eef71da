"""Plans a batch: reads its manifest, judges every row, looks at every picture, and says what all of it will need.

Rows are written a segment at a time, each once. A planner that is killed leaves whole segments; the next one reads the
manifest from its beginning again, which costs little, and goes on with the first row that is not planned.
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
from shared.manifest.row import MAX_ROWS, ManifestRow
from shared.net.egress import Egress
from shared.repositories.batch_estimates import Prices, estimate_batch
from shared.repositories.batch_rows import Row, write_segment
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from worker.batches.image_probe import ImageProbe
from worker.batches.row_validator import RowValidator

LEASE = timedelta(seconds=30)  # how long a planner may be silent until another one takes over
LOOKS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans batches, one at a time. engines: those that rows may ask for. at: called where a crash matters."""

    batches: BatchRepository
    jobs: JobRepository
    egress: Egress
    engines: Collection[str]
    prices: Prices = field(default_factory=Prices)
    looks_at_once: int = LOOKS_AT_ONCE
    at: Callable[[str], None] = lambda _: None

    def plan(self, batch: Batch, *, may_go_on: Callable[[], bool] = lambda: True) -> bool:
        """Plan a batch on to its end; False where another planner is at it, or it may not go on.

        Raises:
            StoreError: the store does not answer; what is planned stays planned.
        """
        begun = self._claimed(batch.id)
        if begun is None:
            return False
        try:
            whole = self._plan_rows(begun, may_go_on)
        except InputRejected as error:
            self._give_up(begun, error)
            return True
        if whole:
            self._finish(begun.id)
        else:
            self.batches.change(begun.id, lambda _: {"planner_until": None})
        return whole

    def _claimed(self, batch_id: str) -> Batch | None:
        """The batch, ours to plan for LEASE; None where it is somebody else's, or not to be planned."""
        is_ours = False

        def claimed(batch: Batch) -> dict[str, Any] | None:
            nonlocal is_ours
            now = self.batches.now()
            is_ours = batch.status is BatchStatus.PLANNING and not (batch.planner_until and now < batch.planner_until)
            return {"planner_until": now + LEASE} if is_ours else None

        begun = self.batches.change(batch_id, claimed)
        return begun if is_ours else None

    def _plan_rows(self, batch: Batch, may_go_on: Callable[[], bool]) -> bool:
        store = self.batches.store
        images = open_images(store, batch.id, batch.file) if batch.file.images_bytes else None
        if batch.planned == 0:
            columns = column_names(store, batch.id, batch.file)
            self.batches.change(batch.id, lambda _: {"columns": tuple(columns)})
        rows = islice(manifest_rows(store, batch.id, batch.file), batch.planned, None)
        with (
            ImageProbe(store, self.egress, batch.caller, images) as looker,
            ThreadPoolExecutor(self.looks_at_once, thread_name_prefix="look") as threads,
        ):
            judge = RowValidator(batch, self.jobs, looker, self.engines)
            while some := list(islice(rows, SEGMENT_ROWS)):
                _require_few(some)
                judged = list(threads.map(judge.validate, some))
                self.at("segment:before")
                if not self._write(batch.id, judged) or not may_go_on():
                    return False
                self.at("segment:after")
        return True

    def _write(self, batch_id: str, judged: list[Row]) -> bool:
        """Make a segment part of the plan, once; False where the batch is not to be planned any more."""
        written = write_segment(self.batches.store, batch_id, judged)

        def grown(batch: Batch) -> dict[str, Any] | None:
            if batch.status is not BatchStatus.PLANNING or batch.planned != written[0].number:
                return None
            return {
                "planned": batch.planned + len(written),
                "invalid": batch.invalid + sum(bool(row.errors) for row in written),
                "reused": batch.reused + sum(row.reused is not None and not row.errors for row in written),
                "planner_until": self.batches.now() + LEASE,
            }

        grew = self.batches.change(batch_id, grown)
        return grew is not None and grew.status is BatchStatus.PLANNING and grew.planned == written[-1].number + 1

    def _finish(self, batch_id: str) -> None:
        batch = self.batches.find(batch_id)
        if batch is None or batch.status is not BatchStatus.PLANNING:
            return
        if batch.planned == 0:
            self._give_up(batch, ParameterInvalid("the manifest has no rows", pointer="/manifest"))
            return
        needs = estimate_batch(self.batches.store, self.jobs, batch, self.prices)
        done = self.batches.change(batch_id, lambda now: planned(now, self.batches.now(), needs))
        if done:
            log("batch.planned", batch_id=done.id, rows=done.planned, invalid=done.invalid, reused=done.reused)

    def _give_up(self, batch: Batch, error: InputRejected) -> None:
        problem = BatchError(code="manifest_invalid", detail=str(error))
        self.batches.change(batch.id, lambda now: unreadable(now, self.batches.now(), problem))
        log("batch.failed", batch_id=batch.id, code=problem.code)


def _require_few(rows: list[ManifestRow]) -> None:
    if rows[-1].number >= MAX_ROWS:
        raise ParameterInvalid(f"the manifest has more than {MAX_ROWS:,} rows: split it", pointer="/manifest")
