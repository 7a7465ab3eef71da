"""JSON records in the object store, one object each, changed only by compare-and-set.

Every write carries a new `write_id`. After an answer that leaves open whether the write happened (a timeout, a 5xx) the
record is read again and its `write_id` compared: so no change is ever made twice, and none is lost.
"""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.domain.job import VersionedRecord
from shared.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from shared.storage.ports import ObjectStore

WRITE_TRIES = 8

R = TypeVar("R", bound=VersionedRecord)


@dataclass(frozen=True, slots=True)
class Versioned(Generic[R]):
    """A record as it was read or written, with the ETag that its next change must name.

    age_s: seconds from its last write to this read, both by the store's clock; 0 right after a write.
    """

    record: R
    etag: str
    age_s: float = 0.0


class VersionedRecords(Generic[R]):
    """All records of one type. Safe from any thread and any number of processes."""

    def __init__(
        self,
        store: ObjectStore,
        record_type: type[R],
        *,
        pause: Callable[[float], None] = time.sleep,
        tries: int = WRITE_TRIES,
        keeps_null: bool = False,
    ) -> None:
        """Open the records.

        Args:
            store: where they are kept.
            record_type: what to parse them as.
            pause: waits between tries, in seconds.
            tries: how often a write is tried, and how often a change starts again after a lost race.
            keeps_null: whether fields that are None are written; needed where None differs from the default.
        """
        self._store = store
        self._type = record_type
        self._pause = pause
        self._tries = tries
        self._keeps_null = keeps_null

    def find(self, key: str) -> Versioned[R] | None:
        """Return the record under a key, or None."""
        try:
            fetched = self._store.get(key)
        except ObjectNotFound:
            return None
        age_s = (fetched.read_at - fetched.modified_at).total_seconds()
        return Versioned(self._type.model_validate_json(fetched.body), fetched.etag, age_s)

    def create(self, key: str, record: R) -> Versioned[R] | None:
        """Write a new record, durable when this returns; None where the key is taken.

        Raises:
            StoreUnavailable: no usable answer in all tries: the record may or may not be there.
        """
        return self._write(key, record, etag=None)

    def replace(self, key: str, current: Versioned[R], record: R) -> Versioned[R] | None:
        """Write `record` in place of `current`; None where another writer has changed or deleted it.

        Raises:
            StoreUnavailable: no usable answer in all tries.
        """
        return self._write(key, record, etag=current.etag)

    def change(
        self, key: str, transition: Callable[[Versioned[R]], R], *, start: Versioned[R] | None = None
    ) -> Versioned[R] | None:
        """Apply a pure transition; apply it to the new record again when another writer was faster.

        Args:
            key: of the record.
            transition: returns the new record, or the same object for no change; its errors pass through.
            start: what the caller read last; it saves the first read.

        Returns:
            The record after the change; None if it does not exist.

        Raises:
            StoreUnavailable: every try lost its race, or got no usable answer.
        """
        current = start or self.find(key)
        for attempt in range(self._tries):
            if current is None:
                return None
            changed = transition(current)
            if changed is current.record:
                return current
            if written := self.replace(key, current, changed):
                return written
            self._pause(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
            current = self.find(key)
        raise StoreUnavailable(f"{key} changed under every one of {self._tries} writes")

    def update(self, key: str, fields: Callable[[R], dict[str, Any] | None]) -> R | None:
        """Change the fields that `fields` returns for the record, none where it returns None; as `change` otherwise."""

        def updated(current: Versioned[R]) -> R:
            update = fields(current.record)
            return current.record if update is None else current.record.model_copy(update=update)

        written = self.change(key, updated)
        return written.record if written else None

    def _write(self, key: str, record: R, *, etag: str | None) -> Versioned[R] | None:
        record = record.model_copy(update={"write_id": secrets.token_hex(8)})
        body = record.model_dump_json(exclude_none=not self._keeps_null).encode()
        for attempt in range(self._tries):
            try:
                written = self._store.put(
                    key, body, content_type="application/json", if_absent=etag is None, if_match=etag
                )
                return Versioned(record, written)
            except (PreconditionFailed, StoreUnavailable) as error:
                present = self.find(key)
                if present and present.record.write_id == record.write_id:
                    return present
                if isinstance(error, PreconditionFailed):
                    return None
                if attempt == self._tries - 1:
                    raise
                self._pause(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")
