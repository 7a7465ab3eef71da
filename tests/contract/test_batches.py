"""A batch over every store, the real S3 peer among them: planned, run, counted and announced."""

from concurrent.futures import ThreadPoolExecutor

from shared.domain.batch import BatchLimits, BatchStatus, retry
from shared.storage import keys
from shared.storage.ports import ObjectStore
from tests.support.batch_harness import BatchHarness, images, table

ROWS = 40


def test_a_batch_runs_each_row_once_over_this_store(store: ObjectStore) -> None:
    """The counts add up while several workers finish jobs; failed rows run a second time."""
    harness = BatchHarness(clock=store.now, store=store, max_jobs=16)
    batch = harness.running(ROWS, caller="ports")
    with ThreadPoolExecutor(4) as workers:
        while not (batch := harness.dispatch(batch)).status.is_terminal:
            counting = workers.submit(harness.counts, batch)
            for number in range(4):
                workers.submit(harness.work, 4, fails=number == 0 and batch.aggregated == 0)
            counting.result()
    first = harness.counts(batch)
    assert first.succeeded + first.failed == ROWS
    if first.failed:
        harness.batches.reopen(batch)
        batch = harness.batches.change(batch.id, lambda now: retry(now, store.now(), BatchLimits())) or batch
        batch = harness.run(batch)
    harness.batches.announce(batch)
    assert batch.status is BatchStatus.COMPLETED
    assert harness.counts(batch).succeeded == ROWS
    assert {job.run_number for job in harness.jobs_of(batch)} <= {0, 1}
    assert not [entry for entry in store.list(keys.PENDING_BATCHES) if batch.id in entry.key]


def test_the_same_catalog_again_runs_nothing_over_this_store(store: ObjectStore) -> None:
    """What was made before is found by its digest."""
    harness = BatchHarness(clock=store.now, store=store, max_jobs=16)
    harness.run(harness.running(5, caller="ports-again"))
    again = harness.planned(table(5), images(5), caller="ports-again")
    assert (again.planned, again.reused) == (5, 5)
