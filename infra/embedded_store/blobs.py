"""Files of large bodies, each written and made durable before a row of the database refers to it."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

INLINE_BYTES = 64 * 1024  # larger bodies are files

Fsync = Callable[[int], None]


class Body(NamedTuple):
    """A whole body as a row holds it: `inline`, or in the file that `blob` names. An ETag is the MD5 of the content."""

    etag: str
    size_bytes: int
    inline: bytes | None
    blob: str | None


class StagedFile:
    """One body that is being written, in memory up to INLINE_BYTES, then in a file. `size_bytes` counts so far.

    The file has a name that no other has had. It is locked while it is open: one that is neither locked nor referred
    to was left by a process that died.
    """

    def __init__(self, folder: Path, fsync: Fsync) -> None:
        self.size_bytes = 0
        self._folder = folder
        self._fsync = fsync
        self._hash = hashlib.md5(usedforsecurity=False)
        self._head = bytearray()
        self._path: Path | None = None
        self._file: FileIO | None = None

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        if self._file is None and self.size_bytes <= INLINE_BYTES:
            self._head += chunk
            return
        if self._file is None:
            self._file = self._create()
            _write_all(self._file, self._head)
        _write_all(self._file, chunk)

    def _create(self) -> FileIO:
        while True:
            self._path = self._folder / secrets.token_hex(16)
            file = FileIO(self._path, "x")
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_nlink:
                    return file
            file.close()  # another process took it, before it was locked, for one that was left

    def finish(self) -> Body:
        """Make the file, if there is one, durable, and return the body."""
        etag = self._hash.hexdigest()
        if self._file is None or self._path is None:
            return Body(etag, self.size_bytes, bytes(self._head), None)
        self._fsync(self._file.fileno())
        sync_folder(self._folder, self._fsync)
        return Body(etag, self.size_bytes, None, self._path.name)

    def keep(self) -> None:
        """Let the file stay: a row refers to it."""
        self._path = None

    def close(self) -> None:
        """Delete the file, unless it is to stay, and let go of it."""
        if self._path:
            self._path.unlink(missing_ok=True)
        if self._file:
            self._file.close()


def _write_all(file: FileIO, content: bytes | bytearray) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def remove_if_left(path: Path, is_needed: Callable[[], bool]) -> None:
    """Delete a file whose process died before a row referred to it."""
    with suppress(FileNotFoundError, BlockingIOError), FileIO(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_needed():
            path.unlink()


def make_folder(folder: Path, fsync: Fsync) -> None:
    """Make a folder and those above it, each durable."""
    if not folder.is_dir():
        make_folder(folder.parent, fsync)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent, fsync)


def sync_folder(folder: Path, fsync: Fsync) -> None:
    """Make the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fsync(number)
    finally:
        os.close(number)
