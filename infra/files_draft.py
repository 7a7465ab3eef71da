"""Objects in the making: files written piece by piece in a folder of their process, unseen until they are placed."""

import fcntl
import hashlib
import itertools
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path

from infra.files_disk import EPOCH

CHUNK_BYTES = 1 << 20
# Larger objects carry their ETag in an extended attribute, so that nobody hashes them again to read a part of one.
NOTED_BYTES = 64 * 1024
_NOTE = "user.etag"
_CAN_NOTE = hasattr(os, "setxattr")


class Draft:
    """One object in the making, at `path`; `size_bytes` counts what was written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = FileIO(path, "x")
        self._hash = hashlib.md5(usedforsecurity=False)

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]

    def seal(self, at: datetime) -> str:
        """Make the content durable, dated `at` by the store's clock; return its ETag.

        An empty object has no content to lose: the fsync of the folder that it is placed in is all it needs.
        """
        etag = self._hash.hexdigest()
        number = self._file.fileno()
        if self.size_bytes > NOTED_BYTES and _CAN_NOTE:
            with suppress(OSError):  # a file system without attributes: readers hash
                os.setxattr(number, _NOTE, etag.encode())
        date(number, at)
        if self.size_bytes:
            os.fsync(number)
        return etag

    def close(self) -> None:
        """Let go of the file, and remove it where it was not placed."""
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def date(number: int, at: datetime) -> None:
    """Date an open file by the store's clock, to the microsecond."""
    at_ns = (at - EPOCH) // timedelta(microseconds=1) * 1000
    os.utime(number, ns=(at_ns, at_ns))


def hash_of(content: bytes) -> str:
    """The ETag of a content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def etag_of(file: FileIO, status: os.stat_result) -> str:
    """The MD5 of an open object's whole content: noted, or computed in bounded memory. Moves the file's position."""
    if _CAN_NOTE and status.st_size > NOTED_BYTES:
        with suppress(OSError):
            return os.getxattr(file.fileno(), _NOTE).decode()
    file.seek(0)
    content = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(CHUNK_BYTES):
        content.update(chunk)
    return content.hexdigest()


class Drafts:
    """The folder of one process's drafts, locked while the process lives: one without its lock is a dead one's."""

    def __init__(self, folder: Path) -> None:
        """Remove what dead processes left under `folder`, then settle there."""
        folder.mkdir(parents=True, exist_ok=True)
        with _locked_folder(folder):
            for left in folder.iterdir():
                _remove_if_dead(left)
            self._own = folder / f"{os.getpid()}-{os.urandom(4).hex()}"
            self._own.mkdir()
            lock = os.open(self._own, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        weakref.finalize(self, os.close, lock)
        self._numbers = itertools.count()

    def new_path(self) -> str:
        """A path that nobody else uses, not even a fork of this process."""
        return f"{self._own}/{os.getpid()}-{next(self._numbers)}"

    @contextmanager
    def open(self) -> Iterator[Draft]:
        """A new draft, removed at the end unless it was placed."""
        draft = Draft(self.new_path())
        try:
            yield draft
        finally:
            draft.close()


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _remove_if_dead(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        return
    finally:
        os.close(number)
