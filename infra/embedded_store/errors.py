"""Errors of the operating system and of SQLite, translated once into StoreRefused and StoreUnavailable."""

import errno
import os
import sqlite3
import tempfile
from pathlib import Path

from shared.errors import StoreRefused, StoreUnavailable

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
_SQLITE_REFUSALS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_SQLITE_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PROBE_BYTES = 64 * 1024


def damaged(root: Path, reason: object) -> StoreRefused:
    """Build the error for a store that has lost data: it names the folder and the way out."""
    return StoreRefused(
        f"the store in {root} is damaged ({reason}). Stop every process that uses it, keep a copy of the folder, and "
        "restore a backup. To start with an empty store, remove the folder."
    )


class translated:  # noqa: N801 - reads as what it does; a class, since every call of the store enters it
    """Raise StoreRefused where a person must act (space, permission, damage), StoreUnavailable for the rest."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Translate."""
        if isinstance(error, OSError):
            refused = error.errno in _REFUSALS
            raise (StoreRefused if refused else StoreUnavailable)(f"{self._root}: {error.strerror}") from error
        # Its subclasses but for OperationalError are errors of our own statements.
        if isinstance(error, sqlite3.DatabaseError) and type(error) in (
            sqlite3.OperationalError,
            sqlite3.DatabaseError,
        ):
            raise self._of_sqlite(error) from error

    def _of_sqlite(self, error: sqlite3.DatabaseError) -> StoreRefused | StoreUnavailable:
        code = error.sqlite_errorcode & 0xFF  # the rest is a variant
        if code in _SQLITE_DAMAGE:
            return damaged(self._root, error)
        if code in _SQLITE_REFUSALS:
            return StoreRefused(f"{self._root}: {error}")
        if code == sqlite3.SQLITE_IOERR and (reason := self._refusal()):
            return StoreRefused(f"{self._root}: {reason}")
        return StoreUnavailable(f"{self._root}: {error}")

    def _refusal(self) -> str | None:
        """Why the folder takes no more bytes. SQLite reports a spent quota as an I/O error like any other."""
        try:
            with tempfile.TemporaryFile(dir=self._root) as probe:
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            return error.strerror if error.errno in _REFUSALS else None
        return None
