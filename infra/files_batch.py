"""Writes of one thread that become durable together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra import files_disk as disk


@dataclass(slots=True)
class Batch:
    """The folders that are still to be synced, and an empty file that was made meanwhile."""

    folders: dict[str, None] = field(default_factory=dict)
    empty: str = ""


class Batches:
    """At most one batch to a thread."""

    def __init__(self) -> None:
        self._threads = threading.local()

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
        try:
            yield
        finally:
            self._threads.batch = None
            with disk.translated("a batch"):
                for folder in batch.folders:
                    disk.sync(folder)

    def sync(self, folder: str) -> None:
        """Make a folder's entries durable: now, or with the rest of this thread's batch."""
        batch = self.current()
        if batch is None:
            disk.sync(folder)
        else:
            batch.folders[folder] = None
