"""A batch runs each of its rows once, its counts add up at every read, and it stops at its limits."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.domain.batch import SEGMENT_ROWS, BatchLimits, BatchStatus, cancel, confirm, pause, resume, retry
from shared.domain.job import Status
from shared.errors import TransitionRefused
from shared.repositories.batch_rows import job_id_of
from shared.storage import keys
from tests.support.batch_harness import BatchHarness, images, table, zipped
from tests.support.fakes import LossyStore, ManualClock, keys_under
from tests.support.gateway_harness import IMAGE
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import LEASE
from worker.maintenance.reconciler import Reconciler


class Killed(BaseException):
    """The process was killed."""


def dies_at(write: int) -> Callable[[str], None]:
    """Make a hook that kills the process at a write, counted from 0."""
    left = [write]

    def hook(_: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Killed

    return hook


def test_a_catalog_runs_to_its_end() -> None:
    """Every row becomes a job under its SKU, and each succeeds."""
    harness = BatchHarness()
    batch = harness.run(harness.running(12))
    assert batch.status is BatchStatus.COMPLETED
    assert harness.counts(batch).succeeded == 12
    assert [job.custom_id for job in harness.jobs_of(batch)] == [f"SKU-{number}" for number in range(12)]
    assert list(keys_under(harness.batches.store, keys.PENDING)) == []


def test_rows_are_dispatched_a_window_at_a_time() -> None:
    """Never more jobs than are allowed at once."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.running(20)
    for _ in range(3):
        harness.dispatch(batch)
        assert len(list(keys_under(harness.batches.store, keys.PENDING))) <= 4
        harness.work(2)
        harness.counts(batch)


def test_counts_are_live() -> None:
    """Queued, running and ended rows, at every moment."""
    harness = BatchHarness()
    batch = harness.running(8)
    assert harness.counts(batch).queued == 8
    harness.dispatch(batch)
    held = [harness.jobs.claim(harness.queue.dequeue() or "", "worker") for _ in range(2)]
    assert (harness.counts(batch).queued, harness.counts(batch).running) == (6, 2)
    assert held[0]
    harness.jobs.release(held[0])
    assert (harness.counts(batch).queued, harness.counts(batch).running) == (7, 1)
    harness.work(1)
    assert (harness.counts(batch).queued, harness.counts(batch).running, harness.counts(batch).succeeded) == (6, 1, 1)


def test_a_paused_batch_dispatches_nothing_until_it_is_resumed() -> None:
    """Its unfinished jobs end."""
    harness = BatchHarness(max_jobs=3)
    batch = harness.running(9)
    harness.dispatch(batch)
    harness.batches.change(batch.id, pause)
    harness.work()
    harness.dispatch(batch)
    harness.dispatch(batch)
    assert (harness.counts(batch).succeeded, harness.counts(batch).queued) == (3, 6)
    harness.batches.change(batch.id, resume)
    assert harness.run(batch).status is BatchStatus.COMPLETED
    assert harness.counts(batch).succeeded == 9


def test_fault_25_a_canceled_batch_keeps_its_results() -> None:
    """The rest is canceled, running jobs too."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.running(10)
    harness.dispatch(batch)
    harness.work(3)
    running = harness.jobs.claim(harness.queue.dequeue() or "", "worker")
    harness.batches.change(batch.id, lambda now: cancel(now, harness.clock()))
    harness.counts(batch)
    harness.dispatch(batch)
    batch = harness.dispatch(batch)
    assert batch.status is BatchStatus.CANCELED
    assert (harness.counts(batch).succeeded, harness.counts(batch).canceled) == (3, 7)
    assert running
    assert harness.jobs.read(running.record.id).record.status is Status.CANCELED


def test_too_many_failures_stop_a_batch_and_skip_the_rest() -> None:
    """Jobs that wait are not started any more."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.running(20, limits=BatchLimits(max_failures=3))
    harness.dispatch(batch)
    harness.work(3, fails=True)
    harness.dispatch(batch)
    batch = harness.run(batch)
    assert (batch.status, batch.stop) == (BatchStatus.STOPPED, "failures")
    counts = harness.counts(batch)
    assert (counts.failed, counts.skipped, counts.succeeded) == (3, 17, 0)


def test_fault_25_a_budget_is_never_overspent_and_the_rest_is_skipped() -> None:
    """No row starts unless the rest of the budget pays for it and for the unfinished rows."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.run(harness.running(20, limits=BatchLimits(max_cost_usd=1.0)), cost_usd=0.15)
    assert (batch.status, batch.stop) == (BatchStatus.STOPPED, "budget")
    counts = harness.counts(batch)
    assert (counts.succeeded, counts.skipped) == (6, 14)
    assert counts.cost_usd == pytest.approx(0.9)


def test_a_retry_runs_only_what_did_not_succeed() -> None:
    """Failed and skipped rows, under the same job ids, in another run."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.running(10, limits=BatchLimits(max_failures=2))
    harness.dispatch(batch)
    harness.work(2)
    harness.work(2, fails=True)
    batch = harness.run(batch)
    assert (harness.counts(batch).succeeded, harness.counts(batch).failed, harness.counts(batch).skipped) == (2, 2, 6)
    before = {job.id: job.finished_at for job in harness.jobs_of(batch) if job.status is Status.SUCCEEDED}
    harness.clock.advance(60)
    harness.batches.reopen(batch)
    harness.batches.change(batch.id, lambda now: retry(now, harness.clock(), BatchLimits()))
    assert harness.counts(batch).queued == 8
    batch = harness.run(batch)
    assert batch.status is BatchStatus.COMPLETED
    assert harness.counts(batch).succeeded == 10
    assert before == {job.id: job.finished_at for job in harness.jobs_of(batch) if job.id in before}


def test_a_second_batch_of_the_same_catalog_runs_only_what_changed() -> None:
    """New, changed and failed rows; the others reuse earlier results."""
    harness = BatchHarness(max_jobs=50)
    first = harness.running(6)
    harness.dispatch(first)
    harness.work(5)
    harness.work(1, fails=True)
    harness.run(first)
    changed = table(7).replace(b"sku,image", b"sku,image,seed").replace(b"SKU-0.png", b"SKU-0.png,7")
    second = harness.planned(changed, images(7))
    assert [row.reused is not None for row in harness.rows(second)] == [False, True, True, True, True, False, False]
    assert harness.counts(second).succeeded == 4
    another = harness.planned(changed, images(7), caller="mallory")
    assert another.reused == 0


def test_a_budget_allows_one_row_while_the_cost_of_a_row_is_unknown() -> None:
    """Else a first window could spend it many times over."""
    harness = BatchHarness(max_jobs=50)
    batch = harness.running(20, limits=BatchLimits(max_cost_usd=1.0))
    harness.dispatch(batch)
    assert len(harness.jobs_of(batch)) == 1
    batch = harness.run(batch, cost_usd=0.3)
    assert (harness.counts(batch).succeeded, harness.counts(batch).skipped) == (3, 17)


def test_a_row_that_started_before_it_was_skipped_counts_by_its_end() -> None:
    """A worker was quicker than the dispatcher that stopped the batch."""
    harness = BatchHarness(max_jobs=2)
    batch = harness.running(6, limits=BatchLimits(max_failures=1))
    harness.dispatch(batch)
    harness.work(1, fails=True)
    held = harness.jobs.claim(harness.queue.dequeue() or "", "worker")
    assert held
    harness.marks.record_skipped(held.record)
    assert not harness.dispatch(batch).status.is_terminal
    assert harness.counts(batch).skipped == 5
    harness.jobs.succeed(held, artifacts={}, timings={})
    batch = harness.run(batch)
    counts = harness.counts(batch)
    assert (counts.failed, counts.succeeded, counts.skipped) == (1, 1, 4)


def test_unfinished_rows_count_against_the_budget() -> None:
    """However often the batch is dispatched before a row has ended."""
    harness = BatchHarness(max_jobs=50)
    batch = harness.running(20, limits=BatchLimits(max_cost_usd=1.0))
    harness.dispatch(batch)
    harness.work(cost_usd=0.3)
    for _ in range(3):
        harness.dispatch(batch)
    assert len(harness.jobs_of(batch)) == 3


def test_status_markers_are_read_between_two_rows() -> None:
    """So a listing is as long as the number of unfinished rows, whatever earlier runs left."""
    harness = BatchHarness()
    batch = harness.running(1)
    for row in range(10):
        harness.batches.store.put(keys.row_status(batch.id, row, 0, "failed"), b"")
    assert sorted(harness.marks.read(batch, first=2, end=5).statuses) == [2, 3, 4]


def test_a_planner_continues_with_the_first_row_that_is_not_planned() -> None:
    """Segment by segment, each row once."""
    harness = BatchHarness()
    rows = 2 * SEGMENT_ROWS + 10
    batch = harness.stored(table(rows), images(rows))
    for planned in (SEGMENT_ROWS, 2 * SEGMENT_ROWS):
        assert not harness.planner.plan(harness.read(batch), may_continue=lambda: False)
        assert harness.read(batch).planned == planned
    assert harness.planner.plan(harness.read(batch))
    assert [row.number for row in harness.rows(batch)] == list(range(rows))
    assert harness.read(batch).status is BatchStatus.AWAITING_CONFIRMATION


def test_a_planner_that_was_replaced_changes_nothing_more() -> None:
    """It wakes up in the middle of a segment that another one has planned since."""
    harness = BatchHarness()
    batch = harness.stored(table(5), images(5))
    is_first = [True]

    def at(moment: str) -> None:
        if moment == "segment:before" and is_first.pop():
            is_first.append(False)
            harness.clock.advance(LEASE.total_seconds())
            harness.planner.plan(harness.read(batch))

    slow = replace(harness.planner, at=at)
    assert not slow.plan(harness.read(batch))
    assert (harness.read(batch).planned, harness.counts(batch).queued) == (5, 5)


def test_a_written_segment_is_not_changed() -> None:
    """A planner died after it wrote one; since then an image was deleted."""
    store = LossyStore(clock=ManualClock())
    harness = BatchHarness(clock=store.clock, store=store)
    batch = harness.stored(table(2), images(2))
    store.after_put = lambda key: dies_at(0)(key) if "/rows/" in key else None
    with pytest.raises(Killed):
        harness.planner.plan(batch)
    store.after_put = lambda _: None
    store.put(keys.batch_images(batch.id), zipped({"SKU-0.png": IMAGE}))
    harness.clock.advance(31)
    harness.planner.plan(harness.read(batch))
    assert [bool(row.errors) for row in harness.rows(batch)] == [False, False]
    assert harness.read(batch).invalid == 0


def test_a_deleted_result_is_not_reused() -> None:
    """Its cache entry alone is not enough."""
    harness = BatchHarness(max_jobs=50)
    first = harness.run(harness.running(2))
    harness.jobs.purge(harness.jobs_of(first)[0].id)
    assert harness.planned(table(2), images(2)).reused == 1


def test_an_unconfirmed_batch_is_canceled_after_a_week() -> None:
    """Its catalog is not kept for ever."""
    harness = BatchHarness()
    batch = harness.planned(table(2), images(2))
    harness.clock.advance(6.9 * 86_400)
    harness.scheduler().run_for(0.0)
    assert harness.read(batch).status is BatchStatus.AWAITING_CONFIRMATION
    harness.clock.advance(0.2 * 86_400)
    harness.scheduler().run_for(0.0)
    assert harness.read(batch).status is BatchStatus.CANCELED
    assert harness.counts(batch).canceled == 2
    assert list(keys_under(harness.batches.store, keys.PENDING_BATCHES)) == []


def test_an_early_confirmation_drops_the_request_for_it() -> None:
    """The planner died between its plan and its webhook."""
    harness = BatchHarness()
    harness.batches.store.put(keys.endpoint("shop", "we_x"), b"{}")
    batch = harness.running(1)
    harness.scheduler().run_for(0.0)
    assert list(keys_under(harness.batches.store, keys.OUTBOX)) == []
    assert not harness.read(batch).notification_pending


def test_an_ended_batch_is_purged_when_its_callers_key_says_so() -> None:
    """With its catalog and images; not before, and not while it runs again."""
    harness = BatchHarness(max_jobs=50)
    batch = harness.run(harness.running(3, keep_s=3_600.0))
    harness.batches.announce(batch)
    harness.clock.advance(3_599)
    harness.scheduler().run_for(0.0)
    assert harness.read(batch)
    harness.clock.advance(2)
    harness.scheduler().run_for(0.0)
    assert list(keys_under(harness.batches.store, keys.batch_folder(batch.id))) == []
    assert list(keys_under(harness.batches.store, keys.batches_of(batch.caller))) == []


def test_a_batch_that_meets_a_bug_does_not_stop_the_others() -> None:
    """The bug is logged, and the batch is planned again the next time, not at once."""
    harness = BatchHarness()
    bad = harness.stored(table(1), images(1), caller="bad")
    good = harness.stored(table(1), images(1))
    assert harness.store
    harness.store.put(keys.batch_segment(bad.id, 0), b"not a row")
    assert harness.scheduler().plan()  # the good one was planned
    assert harness.read(good).status is BatchStatus.AWAITING_CONFIRMATION
    assert not harness.scheduler().plan()


def test_a_batch_that_another_planner_holds_is_not_planned() -> None:
    """Until that planner has been silent for half a minute."""
    harness = BatchHarness()
    batch = harness.stored(table(1), images(1))
    until = harness.clock() + LEASE
    harness.batches.change(batch.id, lambda _: {"planner_until": until})
    assert not harness.scheduler().plan()
    assert harness.read(batch).status is BatchStatus.PLANNING
    harness.clock.advance(LEASE.total_seconds())
    harness.scheduler().run_for(0.0)
    assert harness.read(batch).status is BatchStatus.AWAITING_CONFIRMATION


def test_callers_take_turns_at_being_planned() -> None:
    """However many catalogs each has sent."""
    harness = BatchHarness()
    greedy = [harness.stored(table(1), images(1), caller="greedy") for _ in range(3)]
    other = harness.stored(table(1), images(1), caller="other")
    harness.scheduler().run_for(0.0)
    assert harness.read(other).planned == 1
    assert sum(harness.read(batch).planned for batch in greedy) == 1


def test_a_row_whose_second_attempt_was_released_waits_again() -> None:
    """Whatever earlier attempts have left."""
    harness = BatchHarness()
    batch = harness.running(1)
    harness.dispatch(batch)
    held = harness.jobs.claim(harness.queue.dequeue() or "", "worker")
    assert held
    harness.jobs.release(harness.jobs.next_attempt(held))
    assert (harness.counts(batch).queued, harness.counts(batch).running) == (1, 0)


def test_two_dispatchers_at_once_do_what_one_does() -> None:
    """Each with what it read before the other wrote."""
    harness = BatchHarness(max_jobs=6)
    batch = harness.running(30)
    dispatchers = [harness.dispatcher, BatchDispatcher(harness.batches, harness.jobs, harness.queue)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(100):
            seen = harness.read(batch)
            if seen.status.is_terminal:
                break
            list(threads.map(lambda dispatcher, seen=seen: dispatcher.dispatch(seen, harness.max_jobs), dispatchers))
            harness.counts(batch)
            assert len(list(keys_under(harness.batches.store, keys.PENDING))) <= 2 * harness.max_jobs
            harness.work(4)
    assert harness.counts(batch).succeeded == 30
    assert [job.attempt for job in harness.jobs_of(batch)] == [1] * 30


def test_retries_can_be_repeated_until_nothing_is_left() -> None:
    """Run after run, whatever each left behind."""
    harness = BatchHarness(max_jobs=4)
    batch = harness.running(12)
    for round_ in range(1, 4):
        harness.dispatch(batch)
        harness.work(2)
        harness.work(2, fails=True)
        harness.batches.change(batch.id, lambda now: cancel(now, harness.clock()))
        batch = harness.run(batch)
        assert harness.counts(batch).succeeded == 2 * round_
        harness.batches.reopen(batch)
        batch = harness.batches.change(batch.id, lambda now: retry(now, harness.clock(), BatchLimits())) or batch
    batch = harness.run(batch)
    assert harness.counts(batch).succeeded == 12
    with pytest.raises(TransitionRefused):
        retry(batch, harness.clock(), BatchLimits())


@pytest.mark.parametrize("moment", ["before_put", "after_put"])
@pytest.mark.parametrize("write", range(60))
def test_fault_25_a_planner_or_dispatcher_killed_at_any_row_repeats_nothing(write: int, moment: str) -> None:
    """The next process plans, dispatches and aggregates each row once, and the counts always add up."""
    store = LossyStore(clock=ManualClock())
    harness = BatchHarness(clock=store.clock, store=store, max_jobs=4)
    batch = harness.stored(table(7), images(7), requires_confirmation=False)
    hook = dies_at(write)
    for _ in range(20):
        setattr(store, moment, hook)
        try:
            harness.scheduler().run_for(0.0)
        except Killed:
            harness.clock.advance(31)
        setattr(store, moment, lambda _: None)
        harness.counts(batch)
        Reconciler(harness.jobs, harness.queue, requeue_after_s=0.0).reconcile()
        harness.work(3)
        harness.counts(batch)
    assert harness.read(batch).status is BatchStatus.COMPLETED
    assert harness.counts(batch).succeeded == 7
    assert [job.attempt for job in harness.jobs_of(batch)] == [1] * 7
    records = [key for key in keys_under(store, "jobs/") if key.endswith("job.json")]
    assert sorted(records) == [keys.job_record(job_id_of(batch, number)) for number in range(7)]
    assert list(keys_under(store, keys.PENDING_BATCHES)) == []


def test_fault_25_good_rows_run_and_each_bad_one_says_where() -> None:
    """A byte order mark, CRLF, a duplicate, a bad row, a file that is not an image: with line and column."""
    harness = BatchHarness()
    manifest = (
        "\ufeffsku,image,seed,texture_size\r\n"
        "A,A.png,1,512\r\n"
        "A,A.png,2,512\r\n"
        "B,B.png,minus one,512\r\n"
        'C,"C.png\r\n'
        "D,D.png,4,999\r\n"
        "E,E.png,5,512\r\n"
        "F,F.png,6,512\r\n"
        ",A.png,7,512\r\n"
    ).encode()
    zip_ = zipped({"A.png": IMAGE, "B.png": IMAGE, "D.png": IMAGE, "E.png": b"<html>", "F.png": IMAGE})
    batch = harness.planned(manifest, zip_)
    errors = [(error.line, error.column, error.code) for row in harness.rows(batch) for error in row.errors]
    assert errors == [
        (3, 1, "id_duplicate"),
        (4, 3, "parameter_invalid"),
        (5, 1, "row_malformed"),
        (6, 4, "parameter_invalid"),
        (7, 2, "not_an_image"),
        (9, 1, "id_missing"),
    ]
    harness.batches.change(batch.id, lambda now: confirm(now, harness.clock()))
    harness.run(batch)
    assert harness.counts(batch).succeeded == 2
    assert harness.counts(batch).failed == 6
