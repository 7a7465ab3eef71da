"""Runs blocking writes in a few threads, several in each turn, so that they share the waits for the disk."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.storage.ports import ObjectStore

T = TypeVar("T")
Work = tuple[Callable[[], Any], asyncio.Future[Any]]
Done = tuple[asyncio.Future[Any], Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class GroupCommitLimits:
    """How many turns are under way `at_once`, and how many pieces of work share one at `most`.

    Over a network writes go side by side, each alone; a disk is best waited for together.
    """

    max_groups: int = 16
    group_size: int = 1


class GroupCommitExecutor:
    """Takes work from one event loop. What is asked for while all turns are under way is done in the next ones.

    An answer is given only once its whole turn is durable. The loop starts each turn, after it has read what came
    meanwhile, rather than the thread that has just ended one: so loop and threads seldom fight over the interpreter.
    """

    def __init__(self, store: ObjectStore, threads: ThreadPoolExecutor, turns: GroupCommitLimits) -> None:
        """`threads` has room for all turns that are under way at once."""
        self._store = store
        self._threads = threads
        self._most = turns.group_size
        self._free_turns = turns.max_groups
        self._waiting: deque[Work] = deque()
        self._begins_soon = False

    async def run(self, write: Callable[[], T]) -> T:
        """Do it in a turn; its error passes through, and so does the store's where the turn cannot be made durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((write, future))
        self._begin_soon(loop)
        return await future

    def _begin_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._free_turns and not self._begins_soon:
            self._begins_soon = True
            loop.call_later(0, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begins_soon = False
        while self._free_turns and self._waiting:
            turn = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            self._free_turns -= 1
            self._threads.submit(self._take, turn, loop)

    def _take(self, turn: list[Work], loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._end, self._done(turn), loop)

    def _end(self, done: list[Done], loop: asyncio.AbstractEventLoop) -> None:
        self._free_turns += 1
        for future, result, error in done:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if self._waiting:
            self._begin_soon(loop)

    def _done(self, turn: list[Work]) -> list[Done]:
        done: list[Done] = []
        try:
            with self._store.group_commit():
                done.extend(_attempt(work, future) for work, future in turn)
        except Exception as error:  # noqa: BLE001 - nobody may wait for an answer that never comes
            return [(future, None, failure or error) for future, _, failure in done]
        return done


def _attempt(work: Callable[[], Any], future: asyncio.Future[Any]) -> Done:
    try:
        return future, work(), None
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        return future, None, error
