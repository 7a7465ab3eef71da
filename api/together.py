"""Runs blocking writes in a few threads, several in each turn, so that they share the waits for the disk."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.ports import ObjectStore

T = TypeVar("T")
Work = tuple[Callable[[], Any], asyncio.Future[Any]]
Done = tuple[asyncio.Future[Any], Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class Turns:
    """How many turns are under way `at_once`, and how many pieces of work share one at `most`.

    Over a network writes go side by side, each alone; a disk is best waited for together.
    """

    at_once: int = 16
    most: int = 1


class Together:
    """Takes work from one event loop. What is asked for while all threads are busy is done in their next turns.

    An answer is given only once its whole turn is durable.
    """

    def __init__(self, store: ObjectStore, threads: ThreadPoolExecutor, turns: Turns) -> None:
        """`threads` has room for all turns that are under way at once."""
        self._store = store
        self._threads = threads
        self._most = turns.most
        self._free_turns = turns.at_once
        self._waiting: deque[Work] = deque()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in a turn; its error passes through, and so does the store's where the turn cannot be made durable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._waiting.append((work, future))
            begins = self._free_turns > 0
            self._free_turns -= begins
        if begins:
            self._threads.submit(self._take_turns, loop)
        return await future

    def _take_turns(self, loop: asyncio.AbstractEventLoop) -> None:
        while turn := self._next_turn():
            loop.call_soon_threadsafe(_answer, self._take(turn))

    def _next_turn(self) -> list[Work]:
        with self._lock:
            turn = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            self._free_turns += not turn
        return turn

    def _take(self, turn: list[Work]) -> list[Done]:
        done: list[Done] = []
        try:
            with self._store.together():
                done.extend(_attempt(work, future) for work, future in turn)
        except Exception as error:  # noqa: BLE001 - nobody may wait for an answer that never comes
            return [(future, None, failure or error) for future, _, failure in done]
        return done


def _attempt(work: Callable[[], Any], future: asyncio.Future[Any]) -> Done:
    try:
        return future, work(), None
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        return future, None, error


def _answer(done: list[Done]) -> None:
    for future, result, error in done:
        if future.cancelled():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
