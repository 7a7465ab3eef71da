"""In which order lanes and waves are looked into."""

from collections import Counter

from infra.queues.priority import FairScheduler, QueuePartition
from shared.domain.job import Lane, tier_of


def taken(order: FairScheduler, waiting: set[QueuePartition], takes: int) -> list[QueuePartition]:
    """What so many takes give while these shelves never run empty."""
    shelves = []
    for _ in range(takes):
        shelf = next(shelf for shelf in order.next() if shelf in waiting)
        order.record_dequeue(shelf)
        shelves.append(shelf)
    return shelves


def test_waves_of_one_caller_grow_eightfold() -> None:
    """1, 7, 56 and the rest."""
    waves = Counter(tier_of(ahead) for ahead in range(1_000))
    assert waves == {0: 1, 1: 7, 2: 56, 3: 936}


def test_earlier_waves_go_first_and_a_lane_is_worth_a_wave() -> None:
    """A flood in the interactive lane does not hold up another's first standard job."""
    shown = [f"{lane[0]}{wave}" for lane, wave in FairScheduler().next()]
    assert shown == ["i0", "i1", "s0", "i2", "s1", "b0", "i3", "s2", "b1", "s3", "b2", "b3"]


def test_fault_24_a_single_interactive_job_is_next_whatever_was_taken_before() -> None:
    """However many rows, standard jobs, or both in turn."""
    rest: set[QueuePartition] = {(Lane.STANDARD, 0), (Lane.BATCH, 3)}
    for before in range(20):
        order = FairScheduler()
        taken(order, rest, before)
        assert taken(order, {(Lane.INTERACTIVE, 0), *rest}, 1) == [(Lane.INTERACTIVE, 0)]


def test_no_lane_starves() -> None:
    """While all are full each lane moves, the more urgent the more."""
    full: set[QueuePartition] = {(lane, 0) for lane in Lane}
    lanes = Counter(lane for lane, _ in taken(FairScheduler(), full, 32))
    assert lanes == {Lane.INTERACTIVE: 24, Lane.STANDARD: 6, Lane.BATCH: 2}
