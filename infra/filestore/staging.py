"""Objects in the making: files written piece by piece, unseen until they are placed.

Linux makes files without a name: nothing is left of one whose process dies, and giving it its name is one step. Where
that is not to be had (other systems, some network and overlay file systems) a draft lies in a folder of its process.
"""

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path

from infra.filestore.disk import EPOCH

CHUNK_BYTES = 1 << 20
# Larger objects carry their ETag in an extended attribute, so that nobody hashes them again to read a part of one.
NOTED_BYTES = 64 * 1024
_NOTE = "user.etag"
_CAN_NOTE = hasattr(os, "setxattr")


class Unplaced:
    """An open file that is to get a name in the store. `path` is the name that it has meanwhile, if it needs one.

    Both ways to name it raise OSError with ESTALE where it is an object that was deleted or replaced meanwhile.
    """

    def __init__(self, number: int, drafts: "Drafts", path: str = "") -> None:
        self.number = number
        self._drafts = drafts
        self._path = path

    def link(self, target: str) -> None:
        """Name it `target`. Raises FileExistsError where that is taken, whoever took it."""
        if self._path:
            os.link(self._path, target)
        else:
            self._link_open(target)

    def replace(self, target: str) -> None:
        """Name it `target`, whatever bore that name before."""
        if not self._path:
            path = self._drafts.new_path()
            self._link_open(path)
            self._path = path
        os.replace(self._path, target)

    def _link_open(self, target: str) -> None:
        try:
            self._drafts.link_open(self.number, target)
        except FileNotFoundError as error:
            if self._is_gone():
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), target) from error
            raise

    def _is_gone(self) -> bool:
        return os.fstat(self.number).st_nlink == 0

    def close(self) -> None:
        """Remove the name that was not the one it is to have. (A rename over another name of its own leaves both.)"""
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


class Draft(Unplaced):
    """One object in the making; `size_bytes` counts what was written."""

    def __init__(self, number: int, drafts: "Drafts", path: str = "") -> None:
        super().__init__(number, drafts, path)
        self.size_bytes = 0
        self._hash = hashlib.md5(usedforsecurity=False)

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self.number, rest) :]

    def seal(self, at: datetime, fsync: Callable[[int], None] = os.fsync) -> str:
        """Make the content durable by `fsync`, dated `at` by the store's clock; return its ETag.

        An empty object has no content to lose: the fsync of the folder that it is placed in is all it needs.
        """
        etag = self._hash.hexdigest()
        if self.size_bytes > NOTED_BYTES and _CAN_NOTE:
            with suppress(OSError):  # a file system without attributes: readers hash
                os.setxattr(self.number, _NOTE, etag.encode())
        date(self.number, at)
        if self.size_bytes:
            fsync(self.number)
        return etag

    def _is_gone(self) -> bool:
        return False  # without a name, but not because it has lost it

    def close(self) -> None:
        """Let go of the file, too."""
        os.close(self.number)
        super().close()


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
    """One process's drafts. Their folder is locked while it lives: one without its lock is a dead one's."""

    def __init__(self, folder: Path, *, named: bool = False) -> None:
        """Remove what dead processes left under `folder`, then settle there.

        `named`: do without files that have no name, whatever the system offers.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with _locked_folder(folder):
            for left in folder.iterdir():
                _remove_if_dead(left)
            self._own = f"{folder}/{os.getpid()}-{os.urandom(4).hex()}"
            os.mkdir(self._own)
            self._own_number = os.open(self._own, os.O_RDONLY)
            fcntl.flock(self._own_number, fcntl.LOCK_EX)
        weakref.finalize(self, os.close, self._own_number)
        self._numbers = itertools.count()
        self._named = named or not self._links_open_files()

    def new_path(self) -> str:
        """A path that nobody else uses, not even a fork of this process."""
        return f"{self._own}/{os.getpid()}-{next(self._numbers)}"

    def link_open(self, number: int, target: str) -> None:
        """Name an open file."""
        # Only with a folder's number does link follow the symbolic link to the file itself. That folder is not used.
        os.link(f"/proc/self/fd/{number}", target, src_dir_fd=self._own_number, follow_symlinks=True)

    @contextmanager
    def open(self, folder: str = "") -> Iterator[Draft]:
        """A new draft, gone at the end unless it was placed; `folder` is where it is to lie, if known."""
        draft = self._new_named() if self._named else Draft(self._unnamed(folder), self)
        try:
            yield draft
        finally:
            draft.close()

    @contextmanager
    def again(self, number: int, path: str) -> Iterator[Unplaced]:
        """An object that was opened as `path`, to be given another name, too. Raises as naming it does."""
        file = Unplaced(number, self, self._second_name(number, path) if self._named else "")
        try:
            yield file
        finally:
            file.close()

    def _new_named(self) -> Draft:
        path = self.new_path()
        return Draft(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), self, path)

    def _unnamed(self, folder: str) -> int:
        if folder:  # near its neighbours on the disk
            with suppress(FileNotFoundError):
                return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
        return os.open(self._own, os.O_TMPFILE | os.O_WRONLY, 0o666)

    def _second_name(self, number: int, path: str) -> str:
        name = self.new_path()
        with suppress(FileNotFoundError):
            os.link(path, name)
            if os.path.samestat(os.stat(name), os.fstat(number)):
                return name
            os.unlink(name)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    def _links_open_files(self) -> bool:
        if not hasattr(os, "O_TMPFILE"):
            return False
        probe = self.new_path()
        try:
            number = os.open(self._own, os.O_TMPFILE | os.O_WRONLY, 0o666)
            try:
                self.link_open(number, probe)
                os.unlink(probe)
            finally:
                os.close(number)
        except OSError:
            return False
        return True


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
