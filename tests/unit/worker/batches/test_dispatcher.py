"""A batch runs each of its rows once, sums at every read, and stops where it is told to."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.domain.batch import SEGMENT_ROWS, BatchLimits, BatchStatus, cancel, confirm, pause, resume, retry
from shared.domain.job import Status
from shared.errors import TransitionRefused
from shared.repositories.batch_rows import job_id_of
from shared.storage import keys
from tests.support.batch_harness import Shop, images, table, zipped
from tests.support.fakes import HandClock, LossyStore, keys_under
from tests.support.gateway_harness import PICTURE
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import LEASE
from worker.maintenance.reconciler import Reconciler


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


def dies_at(write: int) -> Callable[[str], None]:
    """A hook that ends the process at a write, counted from 0."""
    left = [write]

    def hook(_: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Killed

    return hook


def test_a_catalog_runs_to_its_end() -> None:
    """Every row becomes a job under its SKU, and each succeeds."""
    shop = Shop()
    batch = shop.run(shop.running(12))
    assert batch.status is BatchStatus.COMPLETED
    assert shop.counts(batch).succeeded == 12
    assert [job.custom_id for job in shop.jobs_of(batch)] == [f"SKU-{number}" for number in range(12)]
    assert list(keys_under(shop.batches.store, keys.PENDING)) == []


def test_rows_are_fed_a_window_at_a_time() -> None:
    """Never more than the room there is."""
    shop = Shop(room=4)
    batch = shop.running(20)
    for _ in range(3):
        shop.feed(batch)
        assert len(list(keys_under(shop.batches.store, keys.PENDING))) <= 4
        shop.work(2)
        shop.counts(batch)


def test_counts_are_live() -> None:
    """Queued, running, and ended, as it happens."""
    shop = Shop()
    batch = shop.running(8)
    assert shop.counts(batch).queued == 8
    shop.feed(batch)
    held = [shop.jobs.claim(shop.queue.dequeue() or "", "worker") for _ in range(2)]
    assert (shop.counts(batch).queued, shop.counts(batch).running) == (6, 2)
    assert held[0]
    shop.jobs.release(held[0])
    assert (shop.counts(batch).queued, shop.counts(batch).running) == (7, 1)
    shop.work(1)
    assert (shop.counts(batch).queued, shop.counts(batch).running, shop.counts(batch).succeeded) == (6, 1, 1)


def test_a_paused_batch_feeds_nothing_until_it_is_resumed() -> None:
    """What is in hand ends."""
    shop = Shop(room=3)
    batch = shop.running(9)
    shop.feed(batch)
    shop.batches.change(batch.id, pause)
    shop.work()
    shop.feed(batch)
    shop.feed(batch)
    assert (shop.counts(batch).succeeded, shop.counts(batch).queued) == (3, 6)
    shop.batches.change(batch.id, resume)
    assert shop.run(batch).status is BatchStatus.COMPLETED
    assert shop.counts(batch).succeeded == 9


def test_fault_25_a_canceled_batch_keeps_what_it_has_made() -> None:
    """The rest is canceled, what runs among it."""
    shop = Shop(room=4)
    batch = shop.running(10)
    shop.feed(batch)
    shop.work(3)
    running = shop.jobs.claim(shop.queue.dequeue() or "", "worker")
    shop.batches.change(batch.id, lambda now: cancel(now, shop.clock()))
    shop.counts(batch)
    shop.feed(batch)
    batch = shop.feed(batch)
    assert batch.status is BatchStatus.CANCELED
    assert (shop.counts(batch).succeeded, shop.counts(batch).canceled) == (3, 7)
    assert running
    assert shop.jobs.read(running.record.id).record.status is Status.CANCELED


def test_too_many_failures_stop_a_batch_and_skip_the_rest() -> None:
    """Jobs that wait are not begun any more."""
    shop = Shop(room=4)
    batch = shop.running(20, limits=BatchLimits(max_failures=3))
    shop.feed(batch)
    shop.work(3, fails=True)
    shop.feed(batch)
    batch = shop.run(batch)
    assert (batch.status, batch.stop) == (BatchStatus.STOPPED, "failures")
    counts = shop.counts(batch)
    assert (counts.failed, counts.skipped, counts.succeeded) == (3, 17, 0)


def test_fault_25_a_budget_is_never_overspent_and_the_rest_is_skipped() -> None:
    """No row is begun that what is left does not pay for, those in hand paid first."""
    shop = Shop(room=4)
    batch = shop.run(shop.running(20, limits=BatchLimits(max_cost_usd=1.0)), cost_usd=0.15)
    assert (batch.status, batch.stop) == (BatchStatus.STOPPED, "budget")
    counts = shop.counts(batch)
    assert (counts.succeeded, counts.skipped) == (6, 14)
    assert counts.cost_usd == pytest.approx(0.9)


def test_a_retry_runs_what_did_not_succeed_and_nothing_else() -> None:
    """Failed and skipped rows, under the same job ids, in a round of their own."""
    shop = Shop(room=4)
    batch = shop.running(10, limits=BatchLimits(max_failures=2))
    shop.feed(batch)
    shop.work(2)
    shop.work(2, fails=True)
    batch = shop.run(batch)
    assert (shop.counts(batch).succeeded, shop.counts(batch).failed, shop.counts(batch).skipped) == (2, 2, 6)
    before = {job.id: job.finished_at for job in shop.jobs_of(batch) if job.status is Status.SUCCEEDED}
    shop.clock.advance(60)
    shop.batches.reopen(batch)
    shop.batches.change(batch.id, lambda now: retry(now, shop.clock(), BatchLimits()))
    assert shop.counts(batch).queued == 8
    batch = shop.run(batch)
    assert batch.status is BatchStatus.COMPLETED
    assert shop.counts(batch).succeeded == 10
    assert before == {job.id: job.finished_at for job in shop.jobs_of(batch) if job.id in before}


def test_a_second_batch_of_the_same_catalog_runs_only_what_changed() -> None:
    """New rows, changed ones and failed ones; the others point to what was made before."""
    shop = Shop(room=50)
    first = shop.running(6)
    shop.feed(first)
    shop.work(5)
    shop.work(1, fails=True)
    shop.run(first)
    changed = table(7).replace(b"sku,image", b"sku,image,seed").replace(b"SKU-0.png", b"SKU-0.png,7")
    second = shop.planned(changed, images(7))
    assert [row.reused is not None for row in shop.rows(second)] == [False, True, True, True, True, False, False]
    assert shop.counts(second).succeeded == 4
    another = shop.planned(changed, images(7), caller="somebody-else")
    assert another.reused == 0


def test_a_budget_is_tried_on_one_row_while_nobody_knows_what_a_row_costs() -> None:
    """Else a first window could spend it many times over."""
    shop = Shop(room=50)
    batch = shop.running(20, limits=BatchLimits(max_cost_usd=1.0))
    shop.feed(batch)
    assert len(shop.jobs_of(batch)) == 1
    batch = shop.run(batch, cost_usd=0.3)
    assert (shop.counts(batch).succeeded, shop.counts(batch).skipped) == (3, 17)


def test_a_row_that_was_to_be_skipped_but_had_begun_ends_as_it_ends() -> None:
    """A worker was quicker than the feeder that stopped the batch."""
    shop = Shop(room=2)
    batch = shop.running(6, limits=BatchLimits(max_failures=1))
    shop.feed(batch)
    shop.work(1, fails=True)
    held = shop.jobs.claim(shop.queue.dequeue() or "", "worker")
    assert held
    shop.marks.record_skipped(held.record)
    assert not shop.feed(batch).status.is_terminal
    assert shop.counts(batch).skipped == 5
    shop.jobs.succeed(held, artifacts={}, timings={})
    batch = shop.run(batch)
    counts = shop.counts(batch)
    assert (counts.failed, counts.succeeded, counts.skipped) == (1, 1, 4)


def test_what_is_in_hand_counts_against_the_budget() -> None:
    """However often a feeder looks before a row has ended."""
    shop = Shop(room=50)
    batch = shop.running(20, limits=BatchLimits(max_cost_usd=1.0))
    shop.feed(batch)
    shop.work(cost_usd=0.3)
    for _ in range(3):
        shop.feed(batch)
    assert len(shop.jobs_of(batch)) == 3


def test_marks_are_read_between_two_rows() -> None:
    """So that a listing is as long as what is in hand, whatever was before, or is left of another round."""
    shop = Shop()
    batch = shop.running(1)
    for row in range(10):
        shop.batches.store.put(keys.row_status(batch.id, row, 0, "failed"), b"")
    assert sorted(shop.marks.read(batch, first=2, end=5).statuses) == [2, 3, 4]


def test_a_planner_goes_on_with_the_first_row_that_is_not_planned() -> None:
    """Segment by segment, each row once."""
    shop = Shop()
    rows = 2 * SEGMENT_ROWS + 10
    batch = shop.stored(table(rows), images(rows))
    for planned in (SEGMENT_ROWS, 2 * SEGMENT_ROWS):
        assert not shop.planner.plan(shop.read(batch), may_go_on=lambda: False)
        assert shop.read(batch).planned == planned
    assert shop.planner.plan(shop.read(batch))
    assert [row.number for row in shop.rows(batch)] == list(range(rows))
    assert shop.read(batch).status is BatchStatus.AWAITING_CONFIRMATION


def test_a_planner_that_was_overtaken_changes_nothing_more() -> None:
    """It wakes up in the middle of a segment that another one has planned since."""
    shop = Shop()
    batch = shop.stored(table(5), images(5))
    overtaking = [True]

    def at(moment: str) -> None:
        if moment == "segment:before" and overtaking.pop():
            overtaking.append(False)
            shop.clock.advance(LEASE.total_seconds())
            shop.planner.plan(shop.read(batch))

    slow = replace(shop.planner, at=at)
    assert not slow.plan(shop.read(batch))
    assert (shop.read(batch).planned, shop.counts(batch).queued) == (5, 5)


def test_a_segment_that_is_there_counts_as_it_is() -> None:
    """A planner died after it wrote one; by now a picture is gone."""
    store = LossyStore(clock=HandClock())
    shop = Shop(clock=store.clock, store=store)
    batch = shop.stored(table(2), images(2))
    store.after_put = lambda key: dies_at(0)(key) if "/rows/" in key else None
    with pytest.raises(Killed):
        shop.planner.plan(batch)
    store.after_put = lambda _: None
    store.put(keys.batch_images(batch.id), zipped({"SKU-0.png": PICTURE}))
    shop.clock.advance(31)
    shop.planner.plan(shop.read(batch))
    assert [bool(row.errors) for row in shop.rows(batch)] == [False, False]
    assert shop.read(batch).invalid == 0


def test_what_was_made_and_deleted_since_is_made_again() -> None:
    """Its digest alone is worth nothing."""
    shop = Shop(room=50)
    first = shop.run(shop.running(2))
    shop.jobs.purge(shop.jobs_of(first)[0].id)
    assert shop.planned(table(2), images(2)).reused == 1


def test_a_batch_that_nobody_confirms_is_canceled_after_a_week() -> None:
    """Its catalog is not looked at for ever."""
    shop = Shop()
    batch = shop.planned(table(2), images(2))
    shop.clock.advance(6.9 * 86_400)
    shop.tender().run_for(0.0)
    assert shop.read(batch).status is BatchStatus.AWAITING_CONFIRMATION
    shop.clock.advance(0.2 * 86_400)
    shop.tender().run_for(0.0)
    assert shop.read(batch).status is BatchStatus.CANCELED
    assert shop.counts(batch).canceled == 2
    assert list(keys_under(shop.batches.store, keys.PENDING_BATCHES)) == []


def test_a_yes_that_comes_before_anybody_was_asked_asks_nobody_any_more() -> None:
    """The planner died between its plan and its message."""
    shop = Shop()
    shop.batches.store.put(keys.endpoint("shop", "we_x"), b"{}")
    batch = shop.running(1)
    shop.tender().run_for(0.0)
    assert list(keys_under(shop.batches.store, keys.OUTBOX)) == []
    assert not shop.read(batch).notification_pending


def test_an_ended_batch_is_erased_when_its_callers_key_says_so() -> None:
    """With its catalog and pictures; not before, and not while it runs again."""
    shop = Shop(room=50)
    batch = shop.run(shop.running(3, keep_s=3_600.0))
    shop.batches.announce(batch)
    shop.clock.advance(3_599)
    shop.tender().run_for(0.0)
    assert shop.read(batch)
    shop.clock.advance(2)
    shop.tender().run_for(0.0)
    assert list(keys_under(shop.batches.store, keys.batch_folder(batch.id))) == []
    assert list(keys_under(shop.batches.store, keys.batches_of(batch.caller))) == []


def test_a_batch_that_meets_a_bug_keeps_no_other_from_its_turn() -> None:
    """It is logged, and looked at again the next time, not at once."""
    shop = Shop()
    bad = shop.stored(table(1), images(1), caller="bad")
    good = shop.stored(table(1), images(1))
    assert shop.store
    shop.store.put(keys.batch_segment(bad.id, 0), b"not a row")
    assert shop.tender().plan()  # the good one was planned
    assert shop.read(good).status is BatchStatus.AWAITING_CONFIRMATION
    assert not shop.tender().plan()


def test_what_another_planner_has_in_hand_is_left_alone() -> None:
    """Until it has been silent for half a minute."""
    shop = Shop()
    batch = shop.stored(table(1), images(1))
    until = shop.clock() + LEASE
    shop.batches.change(batch.id, lambda _: {"planner_until": until})
    assert not shop.tender().plan()
    assert shop.read(batch).status is BatchStatus.PLANNING
    shop.clock.advance(LEASE.total_seconds())
    shop.tender().run_for(0.0)
    assert shop.read(batch).status is BatchStatus.AWAITING_CONFIRMATION


def test_callers_take_turns_at_being_planned() -> None:
    """Whoever has sent more catalogs."""
    shop = Shop()
    greedy = [shop.stored(table(1), images(1), caller="greedy") for _ in range(3)]
    other = shop.stored(table(1), images(1), caller="other")
    shop.tender().run_for(0.0)
    assert shop.read(other).planned == 1
    assert sum(shop.read(batch).planned for batch in greedy) == 1


def test_a_row_whose_attempt_was_repeated_and_given_back_waits_again() -> None:
    """Whatever earlier attempts have left."""
    shop = Shop()
    batch = shop.running(1)
    shop.feed(batch)
    held = shop.jobs.claim(shop.queue.dequeue() or "", "worker")
    assert held
    shop.jobs.release(shop.jobs.next_attempt(held))
    assert (shop.counts(batch).queued, shop.counts(batch).running) == (1, 0)


def test_two_feeders_at_once_do_what_one_does() -> None:
    """Each with what it read before the other wrote."""
    shop = Shop(room=6)
    batch = shop.running(30)
    feeders = [shop.feeder, BatchDispatcher(shop.batches, shop.jobs, shop.queue)]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(100):
            seen = shop.read(batch)
            if seen.status.is_terminal:
                break
            list(threads.map(lambda feeder, seen=seen: feeder.dispatch(seen, shop.room), feeders))
            shop.counts(batch)
            assert len(list(keys_under(shop.batches.store, keys.PENDING))) <= 2 * shop.room
            shop.work(4)
    assert shop.counts(batch).succeeded == 30
    assert [job.attempt for job in shop.jobs_of(batch)] == [1] * 30


def test_retries_can_be_repeated_until_nothing_is_left() -> None:
    """A round after a round, whatever each left behind."""
    shop = Shop(room=4)
    batch = shop.running(12)
    for round_ in range(1, 4):
        shop.feed(batch)
        shop.work(2)
        shop.work(2, fails=True)
        shop.batches.change(batch.id, lambda now: cancel(now, shop.clock()))
        batch = shop.run(batch)
        assert shop.counts(batch).succeeded == 2 * round_
        shop.batches.reopen(batch)
        batch = shop.batches.change(batch.id, lambda now: retry(now, shop.clock(), BatchLimits())) or batch
    batch = shop.run(batch)
    assert shop.counts(batch).succeeded == 12
    with pytest.raises(TransitionRefused):
        retry(batch, shop.clock(), BatchLimits())


@pytest.mark.parametrize("moment", ["before_put", "after_put"])
@pytest.mark.parametrize("write", range(60))
def test_fault_25_a_planner_or_feeder_killed_at_any_row_repeats_nothing(write: int, moment: str) -> None:
    """Planned, fed and folded by whoever comes next: each row once, and the counts sum all along."""
    store = LossyStore(clock=HandClock())
    shop = Shop(clock=store.clock, store=store, room=4)
    batch = shop.stored(table(7), images(7), requires_confirmation=False)
    hook = dies_at(write)
    for _ in range(20):
        setattr(store, moment, hook)
        try:
            shop.tender().run_for(0.0)
        except Killed:
            shop.clock.advance(31)
        setattr(store, moment, lambda _: None)
        shop.counts(batch)
        Reconciler(shop.jobs, shop.queue, requeue_after_s=0.0).reconcile()
        shop.work(3)
        shop.counts(batch)
    assert shop.read(batch).status is BatchStatus.COMPLETED
    assert shop.counts(batch).succeeded == 7
    assert [job.attempt for job in shop.jobs_of(batch)] == [1] * 7
    records = [key for key in keys_under(store, "jobs/") if key.endswith("job.json")]
    assert sorted(records) == [keys.job_record(job_id_of(batch, number)) for number in range(7)]
    assert list(keys_under(store, keys.PENDING_BATCHES)) == []


def test_fault_25_good_rows_run_and_each_bad_one_says_where() -> None:
    """A byte order mark, CRLF, a duplicate, a bad row, a picture that is none: with line and column."""
    shop = Shop()
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
    zip_ = zipped({"A.png": PICTURE, "B.png": PICTURE, "D.png": PICTURE, "E.png": b"<html>", "F.png": PICTURE})
    batch = shop.planned(manifest, zip_)
    found = [(error.line, error.column, error.code) for row in shop.rows(batch) for error in row.errors]
    assert found == [
        (3, 1, "id_duplicate"),
        (4, 3, "parameter_invalid"),
        (5, 1, "row_malformed"),
        (6, 4, "parameter_invalid"),
        (7, 2, "not_an_image"),
        (9, 1, "id_missing"),
    ]
    shop.batches.change(batch.id, lambda now: confirm(now, shop.clock()))
    shop.run(batch)
    assert shop.counts(batch).succeeded == 2
    assert shop.counts(batch).failed == 6
