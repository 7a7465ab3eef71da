"""Both ports in the memory of one process: the doorbell of the embedded service, and a store for tests."""

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from infra.queues.priority import FairScheduler, QueuePartition
from shared.domain.job import Lane
from shared.errors import ObjectNotFound, PreconditionFailed
from shared.storage.keys import checked, checked_prefix
from shared.storage.ports import Entry, Fetched, SignedPost


class MemoryQueue:
    """Shelves of ids, each id once."""

    def __init__(self) -> None:
        self._order = FairScheduler()
        # Dicts keep the order and refuse a second ring for an id that still waits.
        self._shelves: dict[QueuePartition, dict[str, None]] = {shelf: {} for shelf in self._order.next()}
        self._shelf_of: dict[str, QueuePartition] = {}
        self._rung = threading.Condition()

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Announce queued jobs and wake whoever waits; one that waits already moves to an earlier wave, if it may."""
        with self._rung:
            for job_id in job_ids:
                present = self._shelf_of.get(job_id)
                if present and present[1] > tier:
                    del self._shelves[present][job_id]
                if present is None or present[1] > tier:
                    self._shelves[lane, tier][job_id] = None
                    self._shelf_of[job_id] = (lane, tier)
            self._rung.notify_all()

    def dequeue(self) -> str | None:
        """The next id, or None. Never waits."""
        with self._rung:
            shelf = next((shelf for shelf in self._order.next() if self._shelves[shelf]), None)
            if shelf is None:
                return None
            self._order.record_dequeue(shelf)
            first = next(iter(self._shelves[shelf]))
            del self._shelves[shelf][first], self._shelf_of[first]
            return first

    def wait(self, timeout_s: float) -> None:
        """Sleep until a ring, `timeout_s` at most; returns at once where ids are waiting."""
        with self._rung:
            self._rung.wait_for(lambda: bool(self._shelf_of), timeout_s)

    def wake(self) -> None:
        """Let everybody who waits look around once."""
        with self._rung:
            self._rung.notify_all()


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    etag: str
    modified_at: datetime


class MemoryStore:
    """A dict with an object store's manners; `clock` is the store's own."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}

    def now(self) -> datetime:
        """The store's clock."""
        return self._clock()

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or a range of it."""
        found = self._objects.get(checked(key))
        if found is None:
            raise ObjectNotFound(key)
        end = None if length is None else first_byte + length
        return Fetched(found.body[first_byte:end], found.etag, len(found.body), found.modified_at, self._clock())

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",  # noqa: ARG002 - nobody reads it back here
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write an object if its condition holds."""
        content = body if isinstance(body, bytes) else body.read()
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        with self._lock:
            present = self._objects.get(checked(key))
            if (if_absent and present) or (if_match is not None and (not present or present.etag != if_match)):
                raise PreconditionFailed(key)
            self._objects[key] = _Object(content, etag, self._clock())
        return etag

    def group_commit(self) -> AbstractContextManager[None]:
        """Nothing to gain: nothing here is durable."""
        return nullcontext()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy an object that is still the same."""
        checked(target)
        fetched = self.get(source)
        if fetched.etag != if_match:
            raise PreconditionFailed(source)
        return self.put(target, fetched.body)

    def delete(self, key: str) -> None:
        """Delete an object, if there."""
        with self._lock:
            self._objects.pop(checked(key), None)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Objects in the order of their keys."""
        return self._listed(checked_prefix(prefix), after)

    def _listed(self, prefix: str, after: str) -> Iterator[Entry]:
        with self._lock:
            names = sorted(key for key in self._objects if key.startswith(prefix))
        for name in names[bisect_right(names, after) :]:
            if found := self._objects.get(name):
                yield Entry(name, len(found.body), found.modified_at)

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """A URL that only names the object: nothing serves it."""
        return f"memory:///{checked(key)}?expires_s={expires_s}&filename={filename or ''}"

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """A form that only names the object: nothing takes it."""
        return SignedPost("memory:///", {"key": checked(key), "max_bytes": str(max_bytes), "expires_s": str(expires_s)})
