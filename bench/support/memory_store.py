"""An object store in the memory of one process, for tests and benches."""

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from shared.errors import ObjectNotFound, PreconditionFailed
from shared.storage.keys import checked, checked_prefix
from shared.storage.ports import Entry, Fetched, SignedPost


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    etag: str
    modified_at: datetime


class MemoryStore:
    """A dict that keeps the contract of an object store; `clock` is the store's clock."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}

    def now(self) -> datetime:
        """The store's clock."""
        return self._clock()

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or a range of it."""
        stored = self._objects.get(checked(key))
        if stored is None:
            raise ObjectNotFound(key)
        end = None if length is None else first_byte + length
        return Fetched(stored.body[first_byte:end], stored.etag, len(stored.body), stored.modified_at, self._clock())

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",  # noqa: ARG002 - it is never read back
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
        """Do nothing: nothing here is durable."""
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
        """List objects in the order of their keys."""
        return self._listed(checked_prefix(prefix), after)

    def _listed(self, prefix: str, after: str) -> Iterator[Entry]:
        with self._lock:
            names = sorted(key for key in self._objects if key.startswith(prefix))
        for name in names[bisect_right(names, after) :]:
            if stored := self._objects.get(name):
                yield Entry(name, len(stored.body), stored.modified_at)

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """Return a URL that no server answers."""
        return f"memory:///{checked(key)}?expires_s={expires_s}&filename={filename or ''}"

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """Return a form that no server accepts."""
        return SignedPost("memory:///", {"key": checked(key), "max_bytes": str(max_bytes), "expires_s": str(expires_s)})
