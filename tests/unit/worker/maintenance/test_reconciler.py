"""The sweeper repairs from the ledger alone, and doing it twice changes nothing."""

import threading
from dataclasses import dataclass, field

from bench.support.memory_store import MemoryStore
from shared.domain.job import Status
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from shared.storage.ports import Fetched
from tests.support.fakes import ListQueue, ManualClock, keys_under, new_job, submitted
from tests.support.waiting import HANG_S
from worker.maintenance.reconciler import DAY_S, Reconciler


@dataclass
class House:
    """A ledger with a sweeper."""

    clock: ManualClock = field(default_factory=ManualClock)
    queue: ListQueue = field(default_factory=ListQueue)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.jobs = build_job_repository(self.store)
        self.sweeper = Reconciler(self.jobs, self.queue)


def test_fault_3_a_lost_ring_is_rung_again_after_a_minute() -> None:
    """Not before: the first ring gets its chance."""
    house = House()
    job = submitted(house.jobs)
    house.clock.advance(59)
    assert house.sweeper.reconcile().enqueued == 0
    house.clock.advance(2)
    assert house.sweeper.reconcile().enqueued == 1
    assert house.queue.enqueued == [job.id]


def test_fault_3_a_queue_that_is_down_stops_no_sweep() -> None:
    """What could not be rung for is rung for by the next sweep."""
    house = House()
    submitted(house.jobs)
    house.clock.advance(61)
    house.queue.is_down = True
    assert house.sweeper.reconcile().enqueued == 0
    house.queue.is_down = False
    assert house.sweeper.reconcile().enqueued == 1


def test_fault_4_a_job_whose_lease_ended_is_queued_and_rung_for() -> None:
    """Its worker is gone; the crash is counted."""
    house = House()
    job = submitted(house.jobs)
    house.jobs.claim(job.id, "doomed")
    house.clock.advance(31)
    house.sweeper.reconcile()
    taken_back = house.jobs.read(job.id).record
    assert (taken_back.status, taken_back.crashes) == (Status.QUEUED, 1)


def test_fault_2_an_input_without_a_record_is_gone_within_a_day() -> None:
    """The gateway died between storing the picture and writing the record."""
    house = House()
    job = new_job(house.clock())
    house.jobs.reserve(job)
    house.store.put(keys.job_input(job.id, "png"), b"picture")
    house.clock.advance(60)
    house.sweeper.reconcile()
    assert list(keys_under(house.store, "jobs/")) == [keys.job_input(job.id, "png")]
    house.clock.advance(DAY_S - 60)
    house.sweeper.reconcile()
    assert list(keys_under(house.store, "")) == []


def test_a_job_that_waited_a_day_expires() -> None:
    """Every accepted job reaches a terminal status, also where there is no worker at all."""
    house = House()
    job = submitted(house.jobs)
    house.clock.advance(DAY_S + 1)
    house.sweeper.reconcile()
    assert house.jobs.read(job.id).record.status is Status.EXPIRED


def test_old_uploads_and_idempotency_records_are_deleted() -> None:
    """Uploads after a day, what remembers an Idempotency-Key after two."""
    house = House()
    house.store.put(keys.upload("alice", "up_1"), b"picture")
    house.store.put(keys.idempotency("alice", "abc"), b"{}")
    house.clock.advance(DAY_S + 1)
    assert house.sweeper.reconcile().leftovers_deleted == 1
    assert list(keys_under(house.store, "")) == [keys.idempotency("alice", "abc")]
    house.clock.advance(DAY_S)
    assert house.sweeper.reconcile().leftovers_deleted == 1


def test_a_record_that_cannot_be_read_stops_no_sweep() -> None:
    """One of a newer version, say, after a step back: it is left as it is, and the others are looked after."""
    house = House()
    unreadable, job = submitted(house.jobs), submitted(house.jobs)
    body = house.store.get(keys.job_record(unreadable.id)).body.replace(b"{", b'{"written_by": "tomorrow",', 1)
    house.store.put(keys.job_record(unreadable.id), body)
    house.clock.advance(61)
    assert house.sweeper.reconcile().enqueued == 1
    assert house.queue.enqueued == [job.id]
    assert house.store.get(keys.job_record(unreadable.id)).body == body


def test_open_jobs_are_read_several_at_a_time() -> None:
    """Or a backlog of a few thousand would fill a sweep's minute."""

    class Gathering(MemoryStore):
        """A store whose reads of records wait for each other, eight at a time."""

        meeting = threading.Barrier(8)

        def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
            self.meeting.wait(timeout=HANG_S)
            return super().get(key, first_byte=first_byte, length=length)

    store = Gathering(ManualClock())
    jobs = build_job_repository(store)
    for _ in range(8):
        submitted(jobs)
    assert Reconciler(jobs, ListQueue(), collects_garbage=lambda: False).reconcile().pending == 8


def test_jobs_are_rung_for_in_the_waves_of_their_callers() -> None:
    """Those that run count: a caller's first is one that waits only while none runs."""
    house = House()
    rung: list[tuple[str, int]] = []
    house.queue.enqueue = lambda ids, _lane, *, tier=0: rung.extend((one, tier) for one in ids)  # type: ignore[method-assign]
    job_list = []
    for _ in range(3):
        job_list.append(submitted(house.jobs).id)
        house.clock.advance(1)
    other = submitted(house.jobs, caller="bob").id
    house.clock.advance(61)
    house.jobs.claim(job_list[0], "worker")
    house.sweeper.reconcile()
    assert sorted(rung) == sorted([(job_list[1], 1), (job_list[2], 1), (other, 0)])
