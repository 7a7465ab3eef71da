"""Reservations: which job an Idempotency-Key stands for, whatever the store does."""

from collections.abc import Callable

import pytest

from api.submission.idempotency import Reservation, Reservations
from bench.support.memory_store import MemoryStore
from shared.errors import StoreUnavailable
from tests.support.fakes import LossyStore, ManualClock, no_pause

OURS = Reservation(job_id="job_ours", digest="d")
THEIRS = Reservation(job_id="job_theirs", digest="d")


def over(store: MemoryStore) -> Reservations:
    """Reservations that do not wait."""
    return Reservations(store, pause=no_pause)


def failing(times: int) -> Callable[[str], None]:
    """A hook that raises for its first `times` calls."""
    left = [times]

    def hook(_: str) -> None:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("lost")

    return hook


def test_whoever_comes_first_wins() -> None:
    """The second claim gives the first one's reservation."""
    reservations = over(MemoryStore(ManualClock()))
    first = reservations.claim("alice", "r", "k", OURS)
    second = reservations.claim("alice", "r", "k", THEIRS)
    assert first.record.job_id == OURS.job_id
    assert second.record.job_id == OURS.job_id


@pytest.mark.parametrize("other", [("bob", "r", "k"), ("alice", "s", "k"), ("alice", "r", "l")])
def test_caller_route_and_key_each_tell_reservations_apart(other: tuple[str, str, str]) -> None:
    """Three names, one place."""
    reservations = over(MemoryStore(ManualClock()))
    reservations.claim("alice", "r", "k", OURS)
    assert reservations.find(*other) is None


@pytest.mark.parametrize("moment", ["before_put", "after_put"])
def test_a_lost_answer_leaves_the_claim_ours(moment: str) -> None:
    """Whether or not the write was done when the answer was lost."""
    reservations = over(LossyStore(ManualClock(), **{moment: failing(1)}))
    held = reservations.claim("alice", "r", "k", OURS)
    assert held.record.job_id == OURS.job_id


def test_a_store_that_stays_silent_is_reported() -> None:
    """After a few tries; nothing is reserved then."""
    store = LossyStore(ManualClock(), before_put=failing(100))
    with pytest.raises(StoreUnavailable):
        over(store).claim("alice", "r", "k", OURS)
    assert list(store.list("")) == []


def test_an_old_reservation_is_replaced_by_whoever_comes_first() -> None:
    """The loser of two replacements gets the winner's."""
    clock = ManualClock()
    reservations = over(MemoryStore(clock))
    reservations.claim("alice", "r", "k", OURS)
    clock.advance(1_000)
    old = reservations.find("alice", "r", "k")
    assert old is not None
    assert old.age_s == 1_000
    winner = reservations.replace("alice", "r", "k", old, THEIRS)
    loser = reservations.replace("alice", "r", "k", old, Reservation(job_id="job_third", digest="d"))
    assert winner.record.job_id == THEIRS.job_id
    assert loser.record.job_id == THEIRS.job_id
