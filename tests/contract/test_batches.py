"""A batch over every store, the real S3 peer among them: planned, run, counted, and told of."""

from concurrent.futures import ThreadPoolExecutor

from shared.domain.batch import BatchLimits, BatchStatus, retry
from shared.storage import keys
from shared.storage.ports import ObjectStore
from tests.support.batch_harness import BatchHarness, images, table

ROWS = 40


def test_a_batch_runs_each_row_once_over_this_store(store: ObjectStore) -> None:
    """With counts that sum while several workers settle at once, and a second round for what failed."""
    shop = BatchHarness(clock=store.now, store=store, max_jobs=16)
    batch = shop.running(ROWS, caller="ports")
    with ThreadPoolExecutor(4) as workers:
        while not (batch := shop.dispatch(batch)).status.is_terminal:
            counting = workers.submit(shop.counts, batch)
            for number in range(4):
                workers.submit(shop.work, 4, fails=number == 0 and batch.aggregated == 0)
            counting.result()
    first = shop.counts(batch)
    assert first.succeeded + first.failed == ROWS
    if first.failed:
        shop.batches.reopen(batch)
        batch = shop.batches.change(batch.id, lambda now: retry(now, store.now(), BatchLimits())) or batch
        batch = shop.run(batch)
    shop.batches.announce(batch)
    assert batch.status is BatchStatus.COMPLETED
    assert shop.counts(batch).succeeded == ROWS
    assert {job.run_number for job in shop.jobs_of(batch)} <= {0, 1}
    assert not [entry for entry in store.list(keys.PENDING_BATCHES) if batch.id in entry.key]


def test_the_same_catalog_again_runs_nothing_over_this_store(store: ObjectStore) -> None:
    """What was made before is found by its digest."""
    shop = BatchHarness(clock=store.now, store=store, max_jobs=16)
    shop.run(shop.running(5, caller="ports-again"))
    again = shop.planned(table(5), images(5), caller="ports-again")
    assert (again.planned, again.reused) == (5, 5)
