"""Small records in the bucket, one object each, changed only by compare-and-set."""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.domain.job import Record
from shared.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from shared.storage.ports import ObjectStore

WRITE_TRIES = 8


class Document(Record):
    """Base of such records. `version` grows and `write_id` is new with every write, so that no two are ever equal."""

    version: int = 0
    write_id: str = ""


D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Held(Generic[D]):
    """A document as it was read or written, with the ETag that its next change must name."""

    record: D
    etag: str


class Documents(Generic[D]):
    """Documents of one kind. Safe from any thread and any number of processes."""

    def __init__(self, store: ObjectStore, kind: type[D], *, pause: Callable[[float], None] = time.sleep) -> None:
        """`pause` waits between tries, in seconds."""
        self.store = store
        self._kind = kind
        self._pause = pause

    def find(self, key: str) -> Held[D] | None:
        """The document under a key, if there is one."""
        try:
            fetched = self.store.get(key)
        except ObjectNotFound:
            return None
        return Held(self._kind.model_validate_json(fetched.body), fetched.etag)

    def create(self, key: str, record: D) -> Held[D] | None:
        """Write a new document; None where the key is taken. Raises StoreUnavailable where that stays unknown."""
        return self._write(key, record, etag=None)

    def replace(self, key: str, held: Held[D], **fields: Any) -> Held[D] | None:
        """Change fields of what is held; None where somebody else has changed it. Raises StoreUnavailable."""
        return self._write(key, held.record.model_copy(update=fields), etag=held.etag)

    def change(self, key: str, fields: Callable[[D], dict[str, Any] | None]) -> Held[D] | None:
        """Change what `fields` gives for the present document, again on every lost race; None where there is none.

        Where `fields` gives None the document stays as it is.
        """
        for attempt in range(WRITE_TRIES):
            if (present := self.find(key)) is None:
                return None
            if (wanted := fields(present.record)) is None:
                return present
            if written := self.replace(key, present, **wanted):
                return written
            self._pause(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise StoreUnavailable(f"{key} changed under every one of {WRITE_TRIES} writes")

    def _write(self, key: str, record: D, *, etag: str | None) -> Held[D] | None:
        """One conditional write; after an ambiguous answer the document itself tells whether it was ours."""
        record = record.model_copy(update={"version": record.version + 1, "write_id": secrets.token_hex(8)})
        body = record.model_dump_json(exclude_none=True).encode()
        for attempt in range(WRITE_TRIES):
            try:
                written = self.store.put(
                    key, body, content_type="application/json", if_absent=etag is None, if_match=etag
                )
                return Held(record, written)
            except (PreconditionFailed, StoreUnavailable) as error:
                present = self.find(key)
                if present and present.record.write_id == record.write_id:
                    return present
                if isinstance(error, PreconditionFailed):
                    return None
                if attempt == WRITE_TRIES - 1:
                    raise
                self._pause(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")
