"""The order in which lanes and priority tiers are served."""

from collections import Counter

from infra.queues.priority import FairScheduler, QueuePartition
from shared.domain.job import Lane, tier_of


def dequeued(order: FairScheduler, waiting: set[QueuePartition], count: int) -> list[QueuePartition]:
    """Dequeue so many times from partitions that never run empty; return the partitions."""
    partitions = []
    for _ in range(count):
        partition = next(partition for partition in order.next() if partition in waiting)
        order.record_dequeue(partition)
        partitions.append(partition)
    return partitions


def test_tiers_of_a_caller_grow_eightfold() -> None:
    """1, 7, 56 and the rest."""
    tiers = Counter(tier_of(ahead) for ahead in range(1_000))
    assert tiers == {0: 1, 1: 7, 2: 56, 3: 936}


def test_lower_tiers_go_first_and_a_lane_is_worth_a_tier() -> None:
    """A flood in the interactive lane does not hold up another's first standard job."""
    shown = [f"{lane[0]}{tier}" for lane, tier in FairScheduler().next()]
    assert shown == ["i0", "i1", "s0", "i2", "s1", "b0", "i3", "s2", "b1", "s3", "b2", "b3"]


def test_fault_24_single_interactive_job_is_next() -> None:
    """However many rows, standard jobs, or both in turn."""
    rest: set[QueuePartition] = {(Lane.STANDARD, 0), (Lane.BATCH, 3)}
    for before in range(20):
        order = FairScheduler()
        dequeued(order, rest, before)
        assert dequeued(order, {(Lane.INTERACTIVE, 0), *rest}, 1) == [(Lane.INTERACTIVE, 0)]


def test_no_lane_starves() -> None:
    """While all are full each lane moves, the more urgent the more."""
    full: set[QueuePartition] = {(lane, 0) for lane in Lane}
    lanes = Counter(lane for lane, _ in dequeued(FairScheduler(), full, 32))
    assert lanes == {Lane.INTERACTIVE: 24, Lane.STANDARD: 6, Lane.BATCH: 2}
