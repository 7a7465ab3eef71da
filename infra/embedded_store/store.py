"""The embedded object store, its signed URLs and its signed forms."""

import hashlib
import hmac
import json
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlencode

from infra.embedded_store.blobs import Fsync, StagedFile, make_folder, remove_if_left
from infra.embedded_store.database import BUSY_S, Database, create_database, damaged, translated
from shared.errors import ObjectNotFound, PreconditionFailed
from shared.storage.keys import checked, checked_prefix
from shared.storage.ports import Entry, Fetched, SignedPost

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CHUNK_BYTES = 1 << 20
FILES_PATH = "/v1/files"
FIRST_PAGE_ROWS = 16  # of a listing: many callers need its first entries alone
MAX_PAGE_ROWS = 1_024
FSYNC = getattr(os, "fdatasync", os.fsync)  # macOS has only the second
BEFORE_KEYS, AFTER_KEYS = "\x01", "\x7f"  # sort before and after every character of a key

_COLUMNS = "key, etag, size, modified_us, body, blob"
_REPLACE = """ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, size = excluded.size,
    modified_us = excluded.modified_us, body = excluded.body, blob = excluded.blob"""
_CREATE = f"INSERT INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_PUT = f"INSERT INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) {_REPLACE}"
_CHANGE = "UPDATE objects SET etag = ?, size = ?, modified_us = ?, body = ?, blob = ? WHERE key = ? AND etag = ?"
_COPY = f"""INSERT INTO objects ({_COLUMNS}) SELECT ?, etag, size, ?, body, blob FROM objects
    WHERE key = ? AND etag = ? {_REPLACE}"""
_DELETE = "DELETE FROM objects WHERE key = ?"
_READ = "SELECT etag, size, modified_us, body, blob FROM objects WHERE key = ?"
_LIST = "SELECT key, size, modified_us FROM objects WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_BLOBS = "SELECT blob FROM objects WHERE blob IS NOT NULL"
_IS_BLOB = "SELECT 1 FROM objects WHERE blob = ? LIMIT 1"


class ObjectStream(NamedTuple):
    """One version of an object, open for reading; the caller closes `file`."""

    file: BinaryIO | FileIO
    etag: str
    size_bytes: int
    modified_at: datetime


class SqliteStore:
    """See `shared.storage.ports.ObjectStore`. An ETag is the content's MD5. An object is dated when written or copied.

    Any number of processes may open one folder. Each condition is part of the statement that writes. A large body is a
    file that is durable before the row that names it is written, and is deleted after the last such row is gone for
    good; copies share it.
    """

    def __init__(
        self,
        root: Path,
        *,
        secret: bytes,
        base_url: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fsync: Fsync = FSYNC,
        busy_s: float = BUSY_S,
    ) -> None:
        """`secret` signs URLs under `base_url`, the gateway's; all processes over one `root` share secret and clock.

        Raises:
            StoreRefused: the folder is damaged, or cannot be used.
            StoreUnavailable: another process keeps it locked, or the disk fails.
        """
        self.signer = UrlSigner(secret, base_url)
        self._clock = clock
        self._root = root.absolute()
        self._translated = translated(self._root)
        self._fsync = fsync
        self._blobs = self._root / "blobs"
        path = self._root / "objects.sqlite"
        with self._translated:
            make_folder(self._root, fsync)
            if not path.exists():
                if self._blobs.exists():  # made after the database
                    raise damaged(self._root, f"{path.name} is missing")
                create_database(path)
            self._db = Database(path, fsync=fsync, busy_s=busy_s)
            weakref.finalize(self, self._db.close).atexit = False
            make_folder(self._blobs, fsync)
            self._remove_orphans()

    def now(self) -> datetime:
        return self._clock()

    # --- reading

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or `length` bytes of it, from one version of it."""
        stream = self.open(key)
        with self._translated, stream.file as file:
            file.seek(first_byte)
            body = file.read(-1 if length is None else length)
        return Fetched(body, stream.etag, stream.size_bytes, stream.modified_at, self._clock())

    def open(self, key: str) -> ObjectStream:
        """Open an object for reading in pieces. Raises ObjectNotFound."""
        missing = ""
        while True:
            with self._translated:
                rows = self._db.read(_READ, (checked(key),))
                if not rows:
                    raise ObjectNotFound(key)
                etag, size_bytes, modified_us, body, blob = rows[0]
                try:
                    file = BytesIO(body) if blob is None else FileIO(self._blobs / blob)
                    return ObjectStream(file, etag, size_bytes, _moment(modified_us))
                except FileNotFoundError as error:
                    if blob == missing:
                        raise damaged(self._root, f"blobs/{blob} is missing") from error
                    missing = blob  # the object was replaced meanwhile

    # --- writing

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        content_type: str = "application/octet-stream",  # noqa: ARG002 - served by the key's extension
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        checked(key)
        with self.stage() as staged:
            for chunk in (body,) if isinstance(body, bytes) else iter(partial(body.read, CHUNK_BYTES), b""):
                staged.write(chunk)
            return self.publish(staged, key, if_absent=if_absent, if_match=if_match)

    @contextmanager
    def stage(self) -> Iterator[StagedFile]:
        """Open a body to write in parts and then to `publish`; delete it at the end if it was not published."""
        staged = StagedFile(self._blobs, self._fsync)
        with self._translated:
            try:
                yield staged
            finally:
                staged.close()

    def publish(self, staged: StagedFile, key: str, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Make a staged body the object under `key`, durable when this returns; return its ETag."""
        checked(key)
        with self._translated:
            body = staged.finish()
            values = (body.etag, body.size_bytes, self._now_us(), body.inline, body.blob)
            try:
                if if_match is None:
                    is_written = self._db.change(_CREATE if if_absent else _PUT, (key, *values))
                else:
                    is_written = self._db.change(_CHANGE, (*values, key, if_match))
            except OSError:
                staged.keep()  # the row is there, though a power cut may take it
                raise
            if not is_written:
                raise PreconditionFailed(f"{key} exists" if if_absent else f"{key} has changed")
            staged.keep()
            self._delete_garbage()
        return body.etag

    @contextmanager
    def group_commit(self) -> Iterator[None]:
        """Make this thread's changes visible at once, and wait for the disk once, at the end."""
        self._db.begin_group()
        try:
            yield
        finally:
            with self._translated:
                self._db.end_group()
                self._delete_garbage()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Copy an object that is still the same: a large body is shared, not copied."""
        values = (checked(target), self._now_us(), checked(source), if_match)
        with self._translated:
            if self._db.change(_COPY, values):
                self._delete_garbage()
                return if_match
            is_there = self._db.read(_READ, (source,))
        if not is_there:
            raise ObjectNotFound(source)
        raise PreconditionFailed(f"{source} has changed")

    def delete(self, key: str) -> None:
        with self._translated:
            self._db.change(_DELETE, (checked(key),))
            self._delete_garbage()

    def _delete_garbage(self) -> None:
        for name in self._db.take_garbage():
            (self._blobs / name).unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Delete files without a row. A process leaves them that dies before the row is there, or after it is gone."""
        known = {name for (name,) in self._db.read(_BLOBS)}
        for path in self._blobs.iterdir():
            if path.name not in known:
                remove_if_left(path, partial(self._is_needed, path.name))

    def _is_needed(self, blob: str) -> bool:
        if self._db.read(_IS_BLOB, (blob,)):
            return True
        self._db.sync()  # until then the row could come back in a power cut
        return False

    # --- listing and signing

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Yield objects in the byte order of their keys, in pages; each page is one snapshot."""
        checked_prefix(prefix)
        return self._listed(prefix, after)

    def _listed(self, prefix: str, after: str) -> Iterator[Entry]:
        start, limit = after + BEFORE_KEYS if after >= prefix else prefix, FIRST_PAGE_ROWS
        while True:
            with self._translated:
                page: list[Any] = self._db.read(_LIST, (start, prefix + AFTER_KEYS, limit))
            for key, size_bytes, modified_us in page:
                yield Entry(key, size_bytes, _moment(modified_us))
            if len(page) < limit:
                return
            start, limit = page[-1][0] + BEFORE_KEYS, min(limit * 8, MAX_PAGE_ROWS)

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        return self.signer.get_url(checked(key), expires_at=self._expiry(expires_s), filename=filename)

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        return self.signer.post_form(checked(key), max_bytes=max_bytes, expires_at=self._expiry(expires_s))

    def _expiry(self, expires_s: int) -> int:
        return int(self._clock().timestamp()) + expires_s

    def _now_us(self) -> int:
        return (self._clock() - EPOCH) // MICROSECOND


def _moment(modified_us: int) -> datetime:
    return EPOCH + modified_us * MICROSECOND


class UrlSigner:
    """Signs with HMAC-SHA256 over method, key, expiry, size limit and file name."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        """`base_url` is where the gateway answers, without a slash at its end; empty for URLs relative to it."""
        if not secret:
            raise ValueError("signed URLs need a secret")
        self._secret = secret
        self._url = base_url.rstrip("/") + FILES_PATH

    def get_url(self, key: str, *, expires_at: int, filename: str | None) -> str:
        """Sign a URL that reads `key` until `expires_at`, seconds since 1970."""
        query = {"expires": str(expires_at)} | ({"filename": filename} if filename else {})
        signature = self._signature("GET", key, query["expires"], filename=filename or "")
        return f"{self._url}/{key}?{urlencode(query | {'signature': signature})}"

    def post_form(self, key: str, *, max_bytes: int, expires_at: int) -> SignedPost:
        """Sign a form that writes `key` until `expires_at`, seconds since 1970."""
        fields = {"key": key, "expires": str(expires_at), "max_bytes": str(max_bytes)}
        signature = self._signature("POST", key, fields["expires"], max_bytes=fields["max_bytes"])
        return SignedPost(self._url, fields | {"signature": signature})

    def allows_get(self, key: str, query: Mapping[str, str], *, now: datetime) -> bool:
        """Return whether a GET's query carries our signature and has not expired."""
        expected = self._signature("GET", key, query.get("expires", ""), filename=query.get("filename", ""))
        return self._holds(query, expected, now)

    def allows_post(self, fields: Mapping[str, str], *, now: datetime) -> bool:
        """Return whether a form carries our signature and has not expired; its other fields are then ours too."""
        key, expires, max_bytes = (fields.get(name, "") for name in ("key", "expires", "max_bytes"))
        return self._holds(fields, self._signature("POST", key, expires, max_bytes=max_bytes), now)

    def _signature(self, method: str, key: str, expires: str, *, max_bytes: str = "", filename: str = "") -> str:
        signed = json.dumps((method, key, expires, max_bytes, filename)).encode()
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()

    def _holds(self, given: Mapping[str, str], expected: str, now: datetime) -> bool:
        """Check the signature first: only then is the expiry a number that this store wrote."""
        return hmac.compare_digest(given.get("signature", "").encode(), expected.encode()) and now.timestamp() < int(
            given["expires"]
        )
