"""API keys: `t2_<id>_<secret>`; the store holds only their SHA-256."""

import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum

from cachetools import TTLCache

from api.limits.quotas import CallerLimits
from shared.domain.job import VersionedRecord
from shared.errors import ObjectNotFound, ParameterInvalid
from shared.storage import keys
from shared.storage.ports import ObjectStore
from shared.storage.versioned_records import Versioned, VersionedRecords

CACHE_TTL_S = 5.0  # a revocation takes effect within this time and one read
CACHE_RECORDS = 10_000
_CALLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_TOKEN = re.compile(r"t2_([0-9a-z]{26})_([A-Za-z0-9_-]{20,100})")


class Scope(StrEnum):
    """A permission of a key."""

    READ = "jobs:read"
    WRITE = "jobs:write"


class KeyRecord(VersionedRecord):
    """The stored record of an API key. Times are aware UTC."""

    id: str
    caller: str
    name: str
    scopes: frozenset[Scope]
    sha256: str
    created_at: datetime
    limits: CallerLimits = CallerLimits()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Return whether the key is valid at this time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def create_key(
    store: ObjectStore,
    *,
    caller: str,
    name: str,
    scopes: frozenset[Scope],
    limits: CallerLimits | None = None,
    expires_at: datetime | None = None,
) -> tuple[KeyRecord, str]:
    """Create a key for a caller; return its record and the key itself, which is not stored.

    Raises:
        ParameterInvalid: `caller` is not 1-63 letters, digits, `_` and `-`, or `name` not 1-100 printable characters.
    """
    if not _CALLER.fullmatch(caller):
        raise ParameterInvalid("a caller is 1-63 letters, digits, underscores and hyphens", pointer="/caller")
    if not (name.isprintable() and 1 <= len(name) <= 100):
        raise ParameterInvalid("a key's name is 1-100 printable characters", pointer="/name")
    now = store.now()
    key_id = keys.new_id("key", now)
    token = f"t2_{key_id.removeprefix('key_')}_{secrets.token_urlsafe(32)}"
    record = KeyRecord(
        id=key_id,
        caller=caller,
        name=name,
        scopes=scopes,
        sha256=_digest(token),
        created_at=now,
        limits=limits or CallerLimits(),
        expires_at=expires_at,
    )
    created = _records(store).create(keys.api_key(key_id), record)
    return (created.record if created else record), token


def list_keys(store: ObjectStore) -> Iterator[KeyRecord]:
    """Yield every key, also revoked ones, oldest first."""
    for entry in store.list(keys.API_KEYS):
        yield KeyRecord.model_validate_json(store.get(entry.key).body)


def revoke_key(store: ObjectStore, key_id: str) -> KeyRecord:
    """Revoke a key; a revoked key stays unchanged.

    Raises:
        ObjectNotFound: there is no such key.
    """
    if not keys.is_id(key_id, "key"):
        raise ObjectNotFound(f"no API key {key_id}")

    def closed(current: Versioned[KeyRecord]) -> KeyRecord:
        record = current.record
        return record if record.revoked_at else record.model_copy(update={"revoked_at": store.now()})

    revoked = _records(store).change(keys.api_key(key_id), closed)
    if revoked is None:
        raise ObjectNotFound(f"no API key {key_id}")
    return revoked.record


def _records(store: ObjectStore) -> VersionedRecords[KeyRecord]:
    # Null is kept: for a limit it means none, and a missing one the default.
    return VersionedRecords(store, KeyRecord, keeps_null=True)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ApiKeyCache:
    """Find the record of a request's key, and cache it for CACHE_TTL_S. Thread-safe."""

    def __init__(self, store: ObjectStore, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._lock = threading.Lock()
        # Key id -> record; None: no such key.
        self._records: TTLCache[str, KeyRecord | None] = TTLCache(CACHE_RECORDS, CACHE_TTL_S, timer=monotonic)
        self._any_key: TTLCache[str, bool] = TTLCache(1, CACHE_TTL_S, timer=monotonic)

    def is_cached(self, token: str) -> bool:
        """Return whether `find` needs no store call."""
        match = _TOKEN.fullmatch(token)
        with self._lock:
            return match is None or match[1] in self._records

    def find(self, token: str) -> KeyRecord | None:
        """Return the record of a valid key, or None."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        record = self._record(match[1])
        # An unknown key costs the same comparison as a wrong secret.
        is_secret_right = hmac.compare_digest(record.sha256 if record else "0" * 64, _digest(token))
        return record if record and is_secret_right and record.is_live(self._store.now()) else None

    def is_empty(self) -> bool:
        """Return whether no key was ever created; may call the store."""
        with self._lock:
            any_key = self._any_key.get(keys.API_KEYS)
        if any_key is None:
            any_key = any(True for _ in self._store.list(keys.API_KEYS))
            with self._lock:
                self._any_key[keys.API_KEYS] = any_key
        return not any_key

    def is_count_cached(self) -> bool:
        """Return whether `is_empty` needs no store call."""
        with self._lock:
            return keys.API_KEYS in self._any_key

    def _record(self, key_id: str) -> KeyRecord | None:
        with self._lock:
            if key_id in self._records:
                return self._records[key_id]
        try:
            record = KeyRecord.model_validate_json(self._store.get(keys.api_key(f"key_{key_id}")).body)
        except ObjectNotFound:
            record = None
        with self._lock:
            self._records[key_id] = record
        return record
