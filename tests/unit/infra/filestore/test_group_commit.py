"""Threads that write together wait for the disk side by side, and work one after the other."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from infra.filestore.group_commit import Batches
from shared.errors import StoreUnavailable


def test_a_thread_at_work_is_waited_for() -> None:
    """Nobody else begins meanwhile, but for whoever has waited out of all proportion."""
    batches = Batches()
    with ThreadPoolExecutor(1) as other, batches.together():
        ours = batches.current()
        theirs = other.submit(lambda: in_turn(batches))
        assert ours is not None
        assert ours.in_turn
        assert theirs.result() is False
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: in_turn(batches)).result() is True


def in_turn(batches: Batches) -> bool:
    """Begin a batch; whether this thread was the one at work."""
    with batches.together():
        batch = batches.current()
        assert batch is not None
        return batch.in_turn


def test_others_work_while_one_waits_for_the_disk(tmp_path: Path) -> None:
    """The turn is let go for every fsync, of files and of folders, and taken again after it."""
    others: list[bool] = []

    def fsync(_: int) -> None:
        with ThreadPoolExecutor(1) as other:
            others.append(other.submit(lambda: in_turn(batches)).result())

    batches = Batches(fsync)
    with batches.together():
        batches.fsync(0)
        batches.sync(str(tmp_path))
        assert others == [True]
        batch = batches.current()
        assert batch is not None
        assert batch.in_turn
    assert others == [True, True]


def test_a_batch_that_fails_leaves_the_turn_free() -> None:
    """The next one works in its turn."""
    batches = Batches()
    with suppress(StoreUnavailable), batches.together():
        raise StoreUnavailable("no")
    assert in_turn(batches) is True
    assert batches.current() is None
