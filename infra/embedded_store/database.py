"""The SQLite file of the embedded store: its schema, its connections, its group commit, and its errors."""

import errno
import os
import secrets
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded_store.blobs import Fsync, sync_folder
from shared.errors import StoreRefused, StoreUnavailable

BUSY_S = 5.0  # how long a change waits for other threads, and then for other processes
MAX_READERS = 8  # at once; SQLite keeps the files of a connection that is closed next to others
LAYOUT = 1
LOG_CHUNK_BYTES = 1 << 20
PROBE_BYTES = 64 * 1024

# A table with row numbers keeps a record and its body in one page: a change then writes one page.
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE objects (
    key TEXT NOT NULL PRIMARY KEY,
    etag TEXT NOT NULL,
    size INTEGER NOT NULL,
    modified_us INTEGER NOT NULL,
    body BLOB,
    blob TEXT,
    CHECK ((body IS NULL) <> (blob IS NULL))
);
CREATE INDEX objects_by_blob ON objects (blob) WHERE blob IS NOT NULL;
PRAGMA user_version = {LAYOUT};
"""
# Files that lose their last row, noted in memory by the connection that writes.
_GARBAGE = """
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE garbage (blob TEXT NOT NULL);
CREATE TEMP TRIGGER replaced AFTER UPDATE ON objects
    WHEN OLD.blob IS NOT NEW.blob AND OLD.blob IS NOT NULL AND NOT EXISTS (SELECT 1 FROM objects WHERE blob = OLD.blob)
    BEGIN INSERT INTO garbage VALUES (OLD.blob); END;
CREATE TEMP TRIGGER deleted AFTER DELETE ON objects
    WHEN OLD.blob IS NOT NULL AND NOT EXISTS (SELECT 1 FROM objects WHERE blob = OLD.blob)
    BEGIN INSERT INTO garbage VALUES (OLD.blob); END;
"""

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


@dataclass(slots=True)
class Change:
    """One statement, or none for an fsync alone, and its outcome. has_changed: whether it changed a row."""

    statement: str = ""
    values: Sequence[Any] = ()
    has_changed: bool = False
    error: Exception | None = None
    is_done: bool = False


class GroupCommit:
    """Commits the changes of many threads together, in one transaction and with one fsync.

    The first thread commits at once. Threads that arrive during a commit wait, and one of them commits for all. There
    is no separate writer thread, so a change without competitors costs no switch of threads.
    """

    def __init__(self, commit: Callable[[list[Change]], None]) -> None:
        """`commit` makes changes durable and notes each outcome. An error that it raises is the outcome of all."""
        self._commit = commit
        self._turn = threading.Condition(threading.Lock())
        self._waiting: list[Change] = []
        self._is_committing = False

    def run(self, change: Change) -> None:
        """Return once the change is durable or refused. Raises the error of its commit."""
        with self._turn:
            self._waiting.append(change)
            while not change.is_done:
                if self._is_committing:
                    self._turn.wait()
                else:
                    self._commit_waiting()
        if change.error:
            raise change.error

    def _commit_waiting(self) -> None:
        changes, self._waiting = self._waiting, []
        self._is_committing = True
        self._turn.release()
        failure: Exception | None = OSError(errno.EINTR, "the commit was interrupted")
        try:
            self._commit(changes)
            failure = None
        except Exception as error:  # noqa: BLE001 - raised in every thread that waits for it
            failure = error
        finally:
            self._turn.acquire()
            self._is_committing = False
            for change in changes:
                change.error = change.error or failure
                change.is_done = True
            self._turn.notify_all()


class _Group(threading.local):
    """The group that a thread is in. depth: 0 outside of one. is_unsynced: whether it has changed anything."""

    depth = 0
    is_unsynced = False


class Database:
    """Changes go through one connection, reads through others.

    A commit writes to SQLite's log (WAL) without an fsync (`synchronous=NORMAL`), holds SQLite's locks for microseconds
    and is seen by every process at once. The fsync that `synchronous=FULL` would do inside those locks follows, for all
    changes that any thread or process committed meanwhile. The log keeps the order: after a power cut it is read up to
    the first commit that is not whole.
    """

    def __init__(self, path: Path, *, fsync: Fsync, busy_s: float) -> None:
        """Open a file that `create_database` made.

        Raises:
            StoreRefused: it is damaged, of another release's layout, or on a file system without shared memory.
        """
        self._path = path
        self._fsync = fsync
        self._busy_s = busy_s
        self._process = os.getpid()
        self._writing = threading.Lock()
        self._writer = self._connect()
        self._readers: list[sqlite3.Connection] = []  # idle ones
        self._reading = threading.Semaphore(MAX_READERS)
        (layout,) = self._writer.execute("PRAGMA user_version").fetchone()
        if layout == 0:
            raise damaged(path.parent, f"{path.name} is empty")
        if layout != LAYOUT:
            raise StoreRefused(f"{path} has layout {layout}, and this release reads layout {LAYOUT}")
        self._writer.executescript(_GARBAGE)
        # Never open the database itself like this: as that file is closed, this process loses SQLite's locks on it.
        self._log = os.open(f"{path}-wal", os.O_RDWR)
        sync_folder(path.parent, fsync)
        self._log_is_suspect = False
        self._has_garbage = False
        self._group_commit = GroupCommit(self._commit)
        self._group = _Group()

    def close(self) -> None:
        """Close every connection; nothing may be under way."""
        for connection in (*self._readers, self._writer):
            connection.close()
        os.close(self._log)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Yield the rows of a query, all from one snapshot."""
        self._require_own_process()
        with self._reading:
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._connect()
            try:
                return connection.execute(statement, values).fetchall()
            finally:
                self._readers.append(connection)

    def change(self, statement: str, values: Sequence[Any]) -> bool:
        """Commit one statement; return whether it changed a row.

        It is durable when this returns, or when this thread's outermost group ends.

        Raises:
            sqlite3.Error: nothing was changed.
            OSError: the fsync failed. The change is there, and may not survive a power cut.
        """
        change = Change(statement, values)
        if self._group.depth:
            with self._exclusive():
                self._execute(change)
            self._group.is_unsynced |= change.has_changed
        else:
            self._group_commit.run(change)
        return change.has_changed

    def begin_group(self) -> None:
        """Let this thread's changes become durable together, at the latest in `end_group`. Groups may nest."""
        self._group.depth += 1

    def end_group(self) -> None:
        """Make the group durable, unless it is inside another."""
        self._group.depth -= 1
        if not self._group.depth and self._group.is_unsynced:
            self._group.is_unsynced = False
            self.sync()

    def sync(self) -> None:
        """Make durable what any process committed before this call."""
        self._group_commit.run(Change())

    def take_garbage(self) -> list[str]:
        """Return the names of files that no row refers to any more; none inside a group."""
        if self._group.depth or not self._has_garbage:
            return []
        with self._exclusive() as writer:
            self._has_garbage = False
            names = [name for (name,) in writer.execute("SELECT blob FROM garbage").fetchall()]
            writer.execute("DELETE FROM garbage")
        self.sync()  # the change may be another thread's, in a group that is not durable yet
        return names

    @contextmanager
    def _exclusive(self) -> Iterator[sqlite3.Connection]:
        self._require_own_process()
        if not self._writing.acquire(timeout=self._busy_s):
            raise StoreUnavailable(f"{self._path} was busy for {self._busy_s} s")
        try:
            yield self._writer
        finally:
            self._writing.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = FAST")
        return connection

    def _require_own_process(self) -> None:
        """Refuse use after a fork: SQLite's locks belong to the process that opened the file."""
        if os.getpid() != self._process:
            raise StoreUnavailable(f"{self._path} was opened before a fork: open it again in the new process")

    def _commit(self, changes: list[Change]) -> None:
        if self._log_is_suspect:
            self._rewrite_log()
        with self._exclusive():
            self._execute_all([change for change in changes if change.statement])
        if any(change.has_changed or not change.statement for change in changes):
            self._log_is_suspect = True
            self._fsync(self._log)
            self._log_is_suspect = False

    def _execute_all(self, changes: list[Change]) -> None:
        """Commit changes in one transaction, or where one of them fails, each alone."""
        if len(changes) > 1:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for change in changes:
                    self._execute(change)
                self._writer.execute("COMMIT")
            except sqlite3.Error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            else:
                return
        for change in changes:
            try:
                self._execute(change)
            except sqlite3.Error as error:
                change.error = error

    def _execute(self, change: Change) -> None:
        before = self._writer.total_changes
        rows = self._writer.execute(change.statement, change.values).rowcount
        change.has_changed = rows > 0
        self._has_garbage |= self._writer.total_changes - before > rows  # the triggers' rows count there alone

    def _rewrite_log(self) -> None:
        """Write the log's bytes again, so that the next fsync covers them.

        After a failed fsync Linux takes the pages for written: a second fsync would succeed without them, and leave a
        hole before what was committed since.
        """
        with self._exclusive() as writer:
            writer.execute("BEGIN IMMEDIATE")  # no process appends meanwhile
            try:
                for offset in range(0, os.fstat(self._log).st_size, LOG_CHUNK_BYTES):
                    os.pwrite(self._log, os.pread(self._log, LOG_CHUNK_BYTES, offset), offset)
            finally:
                writer.execute("ROLLBACK")


def create_database(path: Path) -> None:
    """Make an empty database under `path`, whole at once, unless another process is first.

    Raises:
        StoreRefused: this file system has no shared memory, which SQLite's log needs.
    """
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                raise StoreRefused(f"{path}: SQLite's log needs shared memory, which this file system does not have")
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)


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

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
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
                probe.write(bytes(PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            return error.strerror if error.errno in _REFUSALS else None
        return None
