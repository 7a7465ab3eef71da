"""An object store that tells of every request it makes."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, TypeVar

from shared.errors import ServiceError
from shared.storage.ports import Entry, Fetched, ObjectStore, SignedPost

T = TypeVar("T")
# (operation, outcome, seconds); outcome is `ok`, an error's code, or `crashed`.
Tell = Callable[[str, str, float], None]


class MeteredStore:
    """Passes everything on to another store. Signing is no request, and is not told of."""

    def __init__(self, store: ObjectStore, tell: Tell, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.inner = store
        self._tell = tell
        self._monotonic = monotonic

    def now(self) -> datetime:
        """The store's clock."""
        return self.inner.now()

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read."""
        return self._told("get", lambda: self.inner.get(key, first_byte=first_byte, length=length))

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write."""
        return self._told(
            "put",
            lambda: self.inner.put(key, body, content_type=content_type, if_absent=if_absent, if_match=if_match),
        )

    def group_commit(self) -> AbstractContextManager[None]:
        """Durable together."""
        return self.inner.group_commit()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy."""
        return self._told("copy", lambda: self.inner.copy(source, target, if_match=if_match))

    def delete(self, key: str) -> None:
        """Delete."""
        self._told("delete", lambda: self.inner.delete(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """List; told of once, and again for every thousand entries, which is what a request gives."""
        began, number = self._monotonic(), 0
        for number, entry in enumerate(self.inner.list(prefix, after=after), start=1):
            if number % 1_000 == 0:
                self._tell("list", "ok", self._monotonic() - began)
                began = self._monotonic()
            yield entry
        if number == 0 or number % 1_000:
            self._tell("list", "ok", self._monotonic() - began)

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """A URL."""
        return self.inner.sign_get(key, expires_s=expires_s, filename=filename)

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """A form."""
        return self.inner.sign_post(key, max_bytes=max_bytes, expires_s=expires_s)

    def _told(self, operation: str, call: Callable[[], T]) -> T:
        began, outcome = self._monotonic(), "crashed"
        try:
            result = call()
        except ServiceError as error:
            outcome = error.code
            raise
        else:
            outcome = "ok"
            return result
        finally:
            self._tell(operation, outcome, self._monotonic() - began)
