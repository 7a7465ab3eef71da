"""What the file store asks of the disk: folders, locks between processes, and the system's errors in our words.

Paths are strings: a Path costs more than the calls made with it.
"""

import errno
import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from os.path import dirname

from shared.errors import StoreRefused, StoreUnavailable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCK_WAIT_S = 10.0
NOT_AN_OBJECT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_REFUSALS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
}


class translated:  # noqa: N801 - reads as what it does; a class, since a submit enters it eight times
    """The one place where the system's errors become ours."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Raise ours for the system's."""
        if isinstance(error, OSError):
            refused = error.errno in _REFUSALS
            raise (StoreRefused if refused else StoreUnavailable)(f"{self._what}: {error.strerror}") from error


def modified_at(status: os.stat_result) -> datetime:
    """When a file was dated, to the microsecond."""
    return EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)


def status_of(path: str) -> os.stat_result | None:
    """A file's status; None where it is gone."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def make_folder(folder: str, sync: Callable[[str], None]) -> None:
    """Make a folder and those above it, each handed to `sync` before anything is put into it.

    Any of them may be removed again at once by whoever empties it: then the caller's next step fails.
    """
    above = dirname(folder)
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        make_folder(above, sync)
        with suppress(FileExistsError, FileNotFoundError):
            os.mkdir(folder)
    except FileExistsError:
        return
    sync(above)


def sync(folder: str, fsync: Callable[[int], None] = os.fsync) -> None:
    """Make a folder's entries durable by `fsync`; one that is gone held nothing any more."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fsync(number)
    finally:
        os.close(number)


def scan(root: str, folder: str, prefix: str, after: str) -> Iterator[tuple[str, bool]]:
    """Names below `root`, and whether each is a folder, of what in `folder` can hold a key that is wanted.

    A folder's name ends with the slash: so it sorts where its keys belong among its neighbours.
    """
    start = f"{folder}/" if folder else ""
    try:
        entries = os.scandir(f"{root}/{folder}")
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            is_folder = entry.is_dir()
            name = f"{start}{entry.name}/" if is_folder else start + entry.name
            if name.startswith(prefix) and (name > after or (is_folder and after.startswith(name))):
                yield name, is_folder


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock file, against every other thread and process.

    Its holder may be a process that somebody stopped, so nobody waits for ever.

    Raises:
        StoreUnavailable: not free within LOCK_WAIT_S.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(number)
        yield
    finally:
        # Closing alone would not do where a fork, made meanwhile by another thread, holds a copy.
        fcntl.flock(number, fcntl.LOCK_UN)
        os.close(number)


def _lock(number: int) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the lock was held for {LOCK_WAIT_S} s") from error
            time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - jitter, not a secret
