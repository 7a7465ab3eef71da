"""Writes of one thread that become durable together."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.filestore import disk

PATIENCE_S = 0.05


@dataclass(slots=True)
class Batch:
    """The folders that are still to be synced, and an empty file that was made meanwhile.

    in_turn: whether its thread is the one at work.
    """

    folders: dict[str, None] = field(default_factory=dict)
    empty: str = ""
    in_turn: bool = False


class Batches:
    """At most one batch to a thread.

    Threads wait for the disk side by side, but work one after the other: on its own a thread gives the interpreter away
    at every step on the disk, and where many do so, most of the time goes into getting it back.
    """

    def __init__(self, fsync: Callable[[int], None] = os.fsync) -> None:
        self._fsync = fsync
        self._threads = threading.local()
        self._at_work = threading.Lock()

    def current(self) -> Batch | None:
        """What this thread is writing together; None outside of a `together`."""
        return getattr(self._threads, "batch", None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """The file system keeps the order of changes to folders: so the first fsync at the end carries nearly all."""
        if self.current() is not None:
            yield
            return
        self._threads.batch = batch = Batch()
        self._begin_work(batch)
        try:
            yield
        finally:
            try:
                self._end_work(batch)
                with disk.translated("a batch"):
                    for folder in batch.folders:
                        disk.sync(folder, self._fsync)
            finally:
                self._threads.batch = None

    def sync(self, folder: str) -> None:
        """Make a folder's entries durable: now, or with the rest of this thread's batch."""
        batch = self.current()
        if batch is None:
            disk.sync(folder, self._fsync)
        else:
            batch.folders[folder] = None

    def fsync(self, number: int) -> None:
        """Make an open file durable now, while others work."""
        batch = self.current()
        if batch is None:
            self._fsync(number)
            return
        self._end_work(batch)
        try:
            self._fsync(number)
        finally:
            self._begin_work(batch)

    def _begin_work(self, batch: Batch) -> None:
        # Out of turn after a while: whoever is at work may be waiting for something, even for what this thread does.
        batch.in_turn = self._at_work.acquire(timeout=PATIENCE_S)

    def _end_work(self, batch: Batch) -> None:
        if batch.in_turn:
            batch.in_turn = False
            self._at_work.release()
