"""The two ports that infra implements: the object store and the job queue."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from shared.domain.job import Lane


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it. `modified_at` is by the store's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Fetched:
    """One read. `size_bytes` is the whole object's, also where `body` is a range of it.

    `modified_at` and `read_at` come from the same clock, the store's: their difference is an age that no
    machine's clock can falsify.
    """

    body: bytes
    etag: str
    size_bytes: int
    modified_at: datetime
    read_at: datetime


@dataclass(frozen=True, slots=True)
class SignedPost:
    """A form that lets its holder upload one object: POST `fields`, then the file as `file`, to `url`."""

    url: str
    fields: Mapping[str, str]


class ObjectStore(Protocol):
    """Keys to bytes, with compare-and-set.

    Every method may raise StoreUnavailable or StoreRefused. Calls are bounded in time and safe from any thread.
    Keys are relative paths of `[A-Za-z0-9._=-]` segments; a leading dot, an empty or a `..` segment is a ValueError.
    """

    def now(self) -> datetime:
        """Return the store's time, aware UTC: the only clock for leases, order and job records."""

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or `length` bytes of it (fewer at its end).

        Raises:
            ObjectNotFound: the key does not exist.
        """

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        """Write an object whole, durable when this returns, and return its ETag.

        A conditional write is tried once: after StoreUnavailable the caller reads and decides. An unconditional one
        is retried inside. A file-like body is read from its present position, in bounded memory.

        Raises:
            PreconditionFailed: `if_absent` and the key exists, or `if_match` and its ETag is another (or it is gone).
        """

    def group_commit(self) -> AbstractContextManager[None]:
        """Let this thread's puts and copies in the block become durable together, at its end.

        After a crash inside the block, a prefix of them survives: never a later one without all earlier ones.
        """

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy an object inside the store if its ETag is still `if_match`; return the copy's ETag.

        Raises:
            ObjectNotFound: the source does not exist.
            PreconditionFailed: its ETag is another.
        """

    def delete(self, key: str) -> None:
        """Delete an object; one that does not exist is no error. Never conditional: stores ignore the condition."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Yield the objects under `prefix` after `after`, in the byte order of whole keys, lazily."""

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """Sign a URL that lets its holder read one object for `expires_s` seconds, saved as `filename`."""

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """Sign a form that lets its holder write one object of at most `max_bytes` for `expires_s` seconds."""


class JobQueue(Protocol):
    """Wakes workers. An item may be lost or doubled; neither does harm."""

    def enqueue(self, job_ids: Sequence[str], lane: Lane, *, tier: int = 0) -> None:
        """Announce queued jobs of one priority tier (see `shared.domain.job.tier_of`). Returns within two seconds.

        Raises:
            QueueUnavailable: full or unreachable; the jobs stay queued and the reconciler enqueues them again.
        """

    def dequeue(self) -> str | None:
        """Return the next id, or None, without waiting."""
