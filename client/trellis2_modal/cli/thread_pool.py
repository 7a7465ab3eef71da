"""A thread pool that never delays the end of the process.

concurrent.futures.ThreadPoolExecutor joins its threads at interpreter exit, so a second Ctrl-C would wait for uploads
and downloads that take minutes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

LONGEST_WAIT_S = 0.2

Item = TypeVar("Item")
Result = TypeVar("Result")


def take(queue: SimpleQueue[Item]) -> Item:
    """Wait for the next item of a queue.

    Each wait is short, because a Ctrl-C that arrives just before a wait does not end it.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=LONGEST_WAIT_S)


class DaemonPool(Generic[Item, Result]):
    """Runs `work` on each item in order, `at_once` items at a time, in daemon threads."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item], at_once: int) -> None:
        self._work = work
        self._pending: SimpleQueue[Item] = SimpleQueue()
        self._results: SimpleQueue[tuple[Item, Result] | BaseException] = SimpleQueue()
        for item in items:
            self._pending.put(item)
        self._left = len(items)
        self._threads = [Thread(target=self._run, name="pool", daemon=True) for _ in items[:at_once]]

    def results(self) -> Iterator[tuple[Item, Result]]:
        """Start the threads and yield each item with its result as it completes; raise what `work` raised."""
        for thread in self._threads:
            thread.start()
        while self._left:
            result = take(self._results)
            self._left -= 1
            if isinstance(result, BaseException):
                raise result
            yield result

    def skip_rest(self, result: Result) -> None:
        """Start no further items; give each of them this result."""
        with suppress(Empty):
            while True:
                self._results.put((self._pending.get_nowait(), result))

    def join(self, timeout_s: float) -> None:
        """Wait until all threads have ended, at most `timeout_s`."""
        ends_at = monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, ends_at - monotonic()))

    def _run(self) -> None:
        while True:
            try:
                item = self._pending.get_nowait()
            except Empty:
                return
            try:
                self._results.put((item, self._work(item)))
            except BaseException as error:  # noqa: BLE001 - `results` raises it in the main thread
                self._results.put(error)
