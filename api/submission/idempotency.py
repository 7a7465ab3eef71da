"""Idempotency keys: which job a key stands for is written down before the job is."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.job import Record
from shared.errors import IdempotencyMismatch, ObjectNotFound, ParameterInvalid, PreconditionFailed, StoreUnavailable
from shared.storage import keys
from shared.storage.ports import ObjectStore

WRITE_TRIES = 4
STALE_S = 900.0  # a reservation this old without a job may be under the sweeper's broom: its id is not used any more
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def checked_key(text: str | None) -> str | None:
    """The value of an Idempotency-Key header.

    Raises:
        ParameterInvalid: not 1-255 printable ASCII characters.
    """
    if text is not None and not _KEY.fullmatch(text):
        raise ParameterInvalid("an Idempotency-Key is 1-255 printable ASCII characters", pointer="/Idempotency-Key")
    return text


class Reservation(Record):
    """What a key was first used for. `digest`: SHA-256 of the payload."""

    job_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoredReservation:
    """A reservation as it lies in the store. is_ours: we have just made it. age_s: by the store's clock."""

    reservation: Reservation
    etag: str
    is_ours: bool
    age_s: float = 0.0


class Reservations:
    """The reservations of one caller's keys, changed only by compare-and-set."""

    def __init__(self, store: ObjectStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._pause = pause

    def find(self, caller: str, route: str, key: str) -> StoredReservation | None:
        """The reservation under a key, if there is one."""
        return self._find(_place(caller, route, key))

    def claim(self, caller: str, route: str, key: str, wanted: Reservation) -> StoredReservation:
        """Reserve a job for a key; whoever came first wins."""
        place = _place(caller, route, key)
        return self._write(place, wanted, etag=None)

    def replace(
        self, caller: str, route: str, key: str, old: StoredReservation, wanted: Reservation
    ) -> StoredReservation:
        """Put a fresh job in the place of one that never came to be; whoever came first wins."""
        return self._write(_place(caller, route, key), wanted, etag=old.etag)

    def _find(self, place: str) -> StoredReservation | None:
        try:
            fetched = self._store.get(place)
        except ObjectNotFound:
            return None
        age_s = (fetched.read_at - fetched.modified_at).total_seconds()
        return StoredReservation(
            Reservation.model_validate_json(fetched.body), fetched.etag, is_ours=False, age_s=age_s
        )

    def _write(self, place: str, wanted: Reservation, *, etag: str | None) -> StoredReservation:
        body = wanted.model_dump_json().encode()
        for attempt in range(WRITE_TRIES):
            try:
                written = self._store.put(
                    place, body, content_type="application/json", if_absent=etag is None, if_match=etag
                )
                return StoredReservation(wanted, written, is_ours=True)
            except (PreconditionFailed, StoreUnavailable) as error:
                present = self._find(place)
                if present and present.etag != etag:
                    # Our own write whose answer was lost looks like this too: its id is ours.
                    return StoredReservation(present.reservation, present.etag, is_ours=present.reservation == wanted)
                if attempt == WRITE_TRIES - 1:
                    raise StoreUnavailable(f"{place} could not be written") from error
                self._pause(0.05 * 2**attempt)
        raise AssertionError("unreachable")


def require_same(held: StoredReservation, digest: str) -> None:
    """Refuse another payload under a key that is taken.

    Raises:
        IdempotencyMismatch: it is another.
    """
    if held.reservation.digest != digest:
        raise IdempotencyMismatch(
            "this Idempotency-Key was used before with another payload", pointer="/Idempotency-Key"
        )


def _place(caller: str, route: str, key: str) -> str:
    return keys.idempotency(caller, hashlib.sha256(f"{route}\n{key}".encode()).hexdigest())
