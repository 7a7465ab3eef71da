"""The object store in a folder: the embedded default, safe between processes and across crashes."""

import errno
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from os.path import dirname
from pathlib import Path
from typing import BinaryIO, NamedTuple

from infra.filestore import disk
from infra.filestore.group_commit import Batches
from infra.filestore.signing import FileSigner
from infra.filestore.staging import CHUNK_BYTES, NOTED_BYTES, Draft, Drafts, Unplaced, date, etag_of, hash_of
from shared.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from shared.storage.keys import checked, checked_prefix
from shared.storage.ports import Entry, Fetched, SignedPost

LOCK_FILES = 256
FOLDER_TRIES = 100
EMPTY_ETAG = hash_of(b"")


class Found(NamedTuple):
    """An object as it lies on the disk."""

    path: str
    etag: str
    status: os.stat_result


class FileStore:
    """Keys are paths under `root`. No key may be a folder of another, as `a` is of `a/b`.

    A new object is a hard link of a finished file: the kernel refuses the second creator. A change is a rename
    while one of LOCK_FILES lock files is held, by this thread of this process alone: where that process is stopped just
    then, others wait for LOCK_WAIT_S and hear that the store is unavailable, until it goes on or dies.
    An ETag is the content's MD5.
    Folders come and go with their objects. An entry of a folder that another writer has just made becomes durable
    with our own fsync: journalling file systems (ext4, XFS, btrfs, APFS) keep the order of such changes.
    """

    def __init__(
        self,
        root: Path,
        *,
        secret: bytes,
        base_url: str = "",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        named_drafts: bool = False,
    ) -> None:
        """`secret` signs URLs under `base_url`, the gateway's; all processes over one `root` share secret and clock.

        `named_drafts`: do without files that have no name, as where the system has none.
        """
        self.signer = FileSigner(secret, base_url)
        self._clock = clock
        self._root = os.path.abspath(root)
        self._locks = f"{self._root}/.locks"
        with disk.translated(self._root):
            disk.make_folder(self._locks, disk.sync)
            self._drafts = Drafts(Path(self._root, ".tmp"), named=named_drafts)
        self._batches = Batches()

    def now(self) -> datetime:
        """The clock that dates the files."""
        return self._clock()

    # --- reading

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Read an object, or `length` bytes of it, from one version of it."""
        with disk.translated(key), self._opened(key) as file:
            status = os.fstat(file.fileno())
            if status.st_size <= NOTED_BYTES:
                whole = file.read(status.st_size)
                etag, body = hash_of(whole), whole[first_byte : None if length is None else first_byte + length]
            else:
                etag = etag_of(file, status)
                file.seek(first_byte)
                body = file.read(-1 if length is None else length)
        return Fetched(body, etag, status.st_size, disk.modified_at(status), self._clock())

    def look(self, key: str) -> Found:
        """Where an object lies, for whoever serves it. Raises ObjectNotFound."""
        with disk.translated(key), self._opened(key) as file:
            status = os.fstat(file.fileno())
            return Found(self._path(key), etag_of(file, status), status)

    def _opened(self, key: str) -> FileIO:
        try:
            return FileIO(self._path(key))
        except OSError as error:
            if error.errno in disk.NOT_AN_OBJECT:
                raise ObjectNotFound(key) from error
            raise

    def _path(self, key: str) -> str:
        return f"{self._root}/{checked(key)}"

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
        """Write an object whole, if its condition holds."""
        path = self._path(key)
        if body == b"" and if_match is None and self._create_empty(key, path):
            return EMPTY_ETAG
        with disk.translated(key), self._drafts.open(dirname(path)) as draft:
            if isinstance(body, bytes):
                draft.write(body)
            else:
                while chunk := body.read(CHUNK_BYTES):
                    draft.write(chunk)
            return self.place(draft, key, if_absent=if_absent, if_match=if_match)

    @contextmanager
    def draft(self) -> Iterator[Draft]:
        """An object to write piece by piece, then to `place`; gone at the end if it was not."""
        with disk.translated("a draft"), self._drafts.open() as draft:
            yield draft

    def place(self, draft: Draft, key: str, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Make a draft the object under `key`, durable when this returns; return its ETag."""
        path = self._path(key)
        with disk.translated(key):
            etag = draft.seal(self._clock(), self._batches.fsync)
            if if_absent:
                self._create(draft, path)
            elif if_match is not None:
                with self._locked(key):
                    self._require(key, if_match)
                    draft.replace(path)
                self._batches.sync(dirname(path))
            else:
                self._create_or_replace(key, draft, path)
        return etag

    def _create_empty(self, key: str, path: str) -> bool:
        """Make an empty object in one step, since nobody can see half of it; False where there is one already."""

        batch = self._batches.current()
        with disk.translated(key):
            try:
                if batch is not None and batch.empty:
                    with suppress(FileNotFoundError):
                        # Alike, and written at the same moment: a second name costs far less than a second file.
                        os.link(batch.empty, path)
                        self._batches.sync(dirname(path))
                        return True
                self._place(self._make_empty, path)
            except FileExistsError:
                return False
        if batch is not None:
            batch.empty = path
        return True

    def _make_empty(self, path: str) -> None:
        number = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            date(number, self._clock())
        finally:
            os.close(number)

    def _create_or_replace(self, key: str, file: Unplaced, path: str) -> None:
        """A new object, the usual case, needs no lock: the kernel sees to it that nobody else has made it."""
        try:
            self._place(file.link, path)
        except FileExistsError:
            with self._locked(key):
                self._place(file.replace, path)

    def _create(self, file: Unplaced, path: str) -> None:
        try:
            self._place(file.link, path)
        except FileExistsError as error:
            raise PreconditionFailed(f"{path} exists") from error

    def _require(self, key: str, etag: str) -> None:
        try:
            with self._opened(key) as file:
                _require(file, key, etag)
        except ObjectNotFound as error:
            raise PreconditionFailed(f"{key} does not exist") from error

    def _place(self, name: Callable[[str], None], path: str) -> None:
        """Name a file in a folder that whoever deletes its last object may remove at any moment before."""
        folder = dirname(path)
        for _ in range(FOLDER_TRIES):
            try:
                name(path)
            except FileNotFoundError:
                disk.make_folder(folder, self._batches.sync)
            else:
                return self._batches.sync(folder)
        raise StoreUnavailable(f"{folder} vanished {FOLDER_TRIES} times")

    def group_commit(self) -> AbstractContextManager[None]:
        """Writes of this thread whose folders are synced at the end, each once."""
        return self._batches.together()

    def copy(self, source: str, target: str, *, if_match: str) -> str:
        """Give an object that is still the same a second name: no bytes move, and `modified_at` stays."""
        source_path, target_path = self._path(source), self._path(target)
        with disk.translated(source), self._opened(source) as file:
            _require(file, source, if_match)
            try:
                with self._drafts.again(file.fileno(), source_path) as again:
                    self._create_or_replace(target, again, target_path)
            except OSError as error:
                if error.errno == errno.ESTALE:
                    gone = not os.path.exists(source_path)
                    raise (ObjectNotFound if gone else PreconditionFailed)(source) from error
                if error.errno != errno.EMLINK:
                    raise
                file.seek(0)
                self.put(target, file)
        return if_match

    def delete(self, key: str) -> None:
        """Delete an object, if there, and the folders that it leaves empty."""
        path = self._path(key)
        with disk.translated(key):
            try:
                with self._locked(key):
                    os.unlink(path)
            except OSError as error:
                if error.errno in disk.NOT_AN_OBJECT:
                    return
                raise
            self._clear(dirname(path))

    def _clear(self, folder: str) -> None:
        """Remove empty folders upwards. A writer who counted on one finds out as it moves its file, and makes it."""
        with suppress(OSError):
            while folder != self._root:
                os.rmdir(folder)
                folder = dirname(folder)
        disk.sync(folder)

    def _locked(self, key: str) -> AbstractContextManager[None]:
        return disk.locked(f"{self._locks}/{zlib.crc32(key.encode()) % LOCK_FILES:02x}")

    # --- listing and signing

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """Objects in the byte order of whole keys; one folder at a time is read, and files one by one."""
        checked_prefix(prefix)
        return self._listed(prefix.rpartition("/")[0], prefix, after)

    def _listed(self, folder: str, prefix: str, after: str) -> Iterator[Entry]:
        with disk.translated(prefix):
            for name, is_folder in sorted(disk.scan(self._root, folder, prefix, after)):
                if is_folder:
                    yield from self._listed(name[:-1], prefix, after)
                elif status := disk.status_of(f"{self._root}/{name}"):
                    yield Entry(name, status.st_size, disk.modified_at(status))

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:
        """A URL of the gateway that reads one object."""
        return self.signer.get_url(checked(key), expires_at=self._expiry(expires_s), filename=filename)

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """A form of the gateway that writes one object."""
        return self.signer.post_form(checked(key), max_bytes=max_bytes, expires_at=self._expiry(expires_s))

    def _expiry(self, expires_s: int) -> int:
        return int(self._clock().timestamp()) + expires_s


def _require(file: FileIO, key: str, etag: str) -> None:
    if etag_of(file, os.fstat(file.fileno())) != etag:
        raise PreconditionFailed(f"{key} has changed")
