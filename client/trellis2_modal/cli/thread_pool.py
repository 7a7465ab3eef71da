"""Several things done side by side, in threads that nobody has to wait for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class DaemonPool(Generic[Item, Made]):
    """Does `work` on each item, on `at_once` of them at a time, the first items first.

    Its threads are daemons: whoever leaves, by a second Ctrl-C above all, leaves at once.
    """

    def __init__(self, work: Callable[[Item], Made], items: Sequence[Item], at_once: int) -> None:
        self._work = work
        self._waiting: SimpleQueue[Item] = SimpleQueue()
        self._done: SimpleQueue[tuple[Item, Made] | BaseException] = SimpleQueue()
        for item in items:
            self._waiting.put(item)
        self._left = len(items)
        self._threads = [Thread(target=self._run, name="crew", daemon=True) for _ in items[:at_once]]

    def results(self) -> Iterator[tuple[Item, Made]]:
        """Each item and what came of it, in the order in which they are done; what `work` raised is raised here."""
        for thread in self._threads:
            thread.start()
        while self._left:
            done = self._done.get()
            self._left -= 1
            if isinstance(done, BaseException):
                raise done
            yield done

    def settle_rest(self, made: Made) -> None:
        """Begin nothing further: this is what comes of all items that were not begun."""
        with suppress(Empty):
            while True:
                self._done.put((self._waiting.get_nowait(), made))

    def join(self, patience_s: float) -> None:
        """Wait until nothing goes on any more, so many seconds at most."""
        ends_at = monotonic() + patience_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, ends_at - monotonic()))

    def _run(self) -> None:
        while True:
            try:
                item = self._waiting.get_nowait()
            except Empty:
                return
            try:
                self._done.put((item, self._work(item)))
            except BaseException as error:  # noqa: BLE001 - it is raised again where the results are waited for
                self._done.put(error)
