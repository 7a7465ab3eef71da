"""Concurrent writes share a group, and no write returns before its group is durable."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from api.submission.group_commit import GroupCommitExecutor, GroupCommitLimits
from bench.support.memory_store import MemoryStore
from shared.errors import ParameterInvalid, StoreUnavailable
from tests.support.waiting import HANG_S


class SlowDisk(MemoryStore):
    """A store whose turns end when the test says so; `turns` are the writes of each turn that has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()
        self.turns: list[list[str]] = []
        self.written: list[str] = []
        self.failure: Exception | None = None

    @contextmanager
    def group_commit(self) -> Iterator[None]:
        """Note what was written meanwhile."""
        first = len(self.written)
        yield
        self.may_end.wait(timeout=HANG_S)
        self.turns.append(self.written[first:])
        if self.failure:
            raise self.failure

    def write(self, name: str) -> str:
        """Write, and answer."""
        self.written.append(name)
        return name


async def results(store: SlowDisk, names: str, *, most: int = 16) -> list[str | BaseException]:
    """Ask for a write of each name, let the disk go on once all have asked, and wait for every answer."""
    with ThreadPoolExecutor(2) as threads:
        together = GroupCommitExecutor(store, threads, GroupCommitLimits(max_groups=1, group_size=most))
        asked = [asyncio.create_task(together.run(lambda name=name: store.write(name))) for name in names]
        while not store.written:
            await asyncio.sleep(0)
        assert not any(task.done() for task in asked)
        store.may_end.set()
        return await asyncio.gather(*asked, return_exceptions=True)


def test_no_call_returns_before_its_group_is_durable() -> None:
    """Then everybody is, each with their own answer."""
    assert asyncio.run(results(SlowDisk(), "abc")) == ["a", "b", "c"]


def test_what_comes_while_a_turn_is_under_way_shares_the_next() -> None:
    """One wait for the disk for all of them, up to the most that one turn takes."""
    store = SlowDisk()
    asyncio.run(results(store, "abcdef", most=2))
    assert sorted(name for turn in store.turns for name in turn) == list("abcdef")
    assert max(len(turn) for turn in store.turns) == 2


def test_a_turn_that_cannot_be_made_durable_fails_for_all() -> None:
    """No caller gets a job that may be lost."""
    store = SlowDisk()
    store.failure = StoreUnavailable("the disk is gone")
    assert asyncio.run(results(store, "abc")) == [store.failure] * 3


def test_error_reaches_only_its_own_caller() -> None:
    """The others of the turn are answered as if it had not happened."""

    async def ask() -> list[str | BaseException]:
        store = SlowDisk()
        store.may_end.set()

        def refuse() -> str:
            raise ParameterInvalid("no")

        with ThreadPoolExecutor(1) as threads:
            together = GroupCommitExecutor(store, threads, GroupCommitLimits(max_groups=1, group_size=16))
            work = [
                together.run(lambda: store.write("a")),
                together.run(refuse),
                together.run(lambda: store.write("b")),
            ]
            return await asyncio.gather(*work, return_exceptions=True)

    first, refused, second = asyncio.run(ask())
    assert (first, second) == ("a", "b")
    with pytest.raises(ParameterInvalid):
        raise refused if isinstance(refused, BaseException) else AssertionError(refused)
