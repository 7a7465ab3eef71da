"""Idempotency keys: the job id of a key is reserved before the job is stored."""

import hashlib
import re
import time
from collections.abc import Callable

from shared.domain.job import VersionedRecord
from shared.errors import IdempotencyMismatch, ParameterInvalid, StoreUnavailable
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned, VersionedRecords

WRITE_TRIES = 4
STALE_S = 900.0  # the reconciler may delete an older reservation without a job: its id is not used again
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def validate_key(text: str | None) -> str | None:
    """Return a valid Idempotency-Key.

    Raises:
        ParameterInvalid: not 1-255 printable ASCII characters.
    """
    if text is not None and not _KEY.fullmatch(text):
        raise ParameterInvalid("an Idempotency-Key is 1-255 printable ASCII characters", pointer="/Idempotency-Key")
    return text


class Reservation(VersionedRecord):
    """The first use of a key. `digest`: SHA-256 of the payload."""

    job_id: str
    digest: str


class Reservations:
    """The reservations of all callers' keys, changed only by compare-and-set."""

    def __init__(self, store: ObjectStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._records = VersionedRecords(store, Reservation, pause=pause, tries=WRITE_TRIES)

    def find(self, caller: str, route: str, key: str) -> Versioned[Reservation] | None:
        """Return the reservation under a key, or None."""
        return self._records.find(_key_of(caller, route, key))

    def claim(self, caller: str, route: str, key: str, reservation: Reservation) -> Versioned[Reservation]:
        """Reserve a job for a key; the first writer wins, and its reservation is returned.

        Raises:
            StoreUnavailable: the reservation could not be written.
        """
        record_key = _key_of(caller, route, key)
        for _ in range(WRITE_TRIES):
            if stored := self._records.create(record_key, reservation) or self._records.find(record_key):
                return stored
        raise StoreUnavailable(f"{record_key} could not be written")

    def replace(
        self, caller: str, route: str, key: str, old: Versioned[Reservation], reservation: Reservation
    ) -> Versioned[Reservation]:
        """Replace a reservation whose job never got a record; the first writer wins.

        Raises:
            StoreUnavailable: the reservation could not be written.
        """
        record_key = _key_of(caller, route, key)
        if stored := self._records.replace(record_key, old, reservation) or self._records.find(record_key):
            return stored
        raise StoreUnavailable(f"{record_key} could not be written")


def require_same_payload(stored: Versioned[Reservation], digest: str) -> None:
    """Refuse a key that was used for another payload.

    Raises:
        IdempotencyMismatch: the payload differs.
    """
    if stored.record.digest != digest:
        raise IdempotencyMismatch(
            "this Idempotency-Key was used before with another payload", pointer="/Idempotency-Key"
        )


def _key_of(caller: str, route: str, key: str) -> str:
    return keys.idempotency(caller, hashlib.sha256(f"{route}\n{key}".encode()).hexdigest())
