"""The group commit of the embedded store, and the translation of its errors."""

import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.embedded_store.database import MAX_READERS, Change, Database, GroupCommit, create_database, translated
from shared.errors import StoreRefused, StoreUnavailable
from tests.contract.adapters import open_files

PUT = "INSERT INTO objects (key, etag, size, modified_us, body) VALUES (?, '', 0, 0, ?)"


class SlowDisk:
    """Commits that end when the test lets them; `commits` are the statements of each."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.failures: dict[str, Exception] = {}
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def commit(self, changes: list[Change]) -> None:
        """Note the changes, and wait."""
        self.commits.append([change.statement for change in changes])
        self.begun.release()
        self.may_end.acquire()
        for change in changes:
            if change.statement in self.failures:
                raise self.failures[change.statement]
            change.has_changed = True


@pytest.fixture
def disk() -> SlowDisk:
    """A disk that waits for the test."""
    return SlowDisk()


def commit_during_another(disk: SlowDisk, statements: str) -> list[Future[None]]:
    """Commit the first statement, and meanwhile ask for the others, each in a thread of its own."""
    group_commit = GroupCommit(disk.commit)
    with ThreadPoolExecutor(len(statements)) as pool:
        futures = [pool.submit(group_commit.run, Change(statements[0]))]
        disk.begun.acquire()
        futures += [pool.submit(group_commit.run, Change(statement)) for statement in statements[1:]]
        while len(group_commit._waiting) < len(statements) - 1:
            pass
        assert not any(future.done() for future in futures)
        disk.may_end.release(len(statements))
    return futures


def test_changes_that_come_during_a_commit_share_the_next(disk: SlowDisk) -> None:
    """One commit for all of them, however many."""
    for future in commit_during_another(disk, "abcdef"):
        future.result()
    assert (disk.commits[0], sorted(disk.commits[1])) == (["a"], list("bcdef"))
    assert len(disk.commits) == 2


def test_a_failed_commit_fails_for_all_that_share_it_and_for_no_other(disk: SlowDisk) -> None:
    """The next commit is tried again."""
    disk.failures["c"] = OSError("the disk is gone")
    first, *others = commit_during_another(disk, "abcd")
    assert first.exception() is None
    assert [other.exception() for other in others] == [disk.failures["c"]] * 3


def test_a_commit_that_is_interrupted_fails_for_all_that_share_it() -> None:
    """A thread that waits must not take its change for durable."""

    def interrupt(_: list[Change]) -> None:
        raise KeyboardInterrupt

    change = Change("a")
    with pytest.raises(KeyboardInterrupt):
        GroupCommit(interrupt).run(change)
    assert isinstance(change.error, OSError)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An empty database."""
    path = tmp_path / "objects.sqlite"
    create_database(path)
    return Database(path, fsync=lambda _: None, busy_s=5)


def test_a_change_that_fails_takes_no_other_of_its_commit_with_it(database: Database) -> None:
    """Neither one that is refused by its condition, nor one that SQLite cannot do."""
    changes = [
        Change(PUT, ("a", b"")),
        Change("UPDATE objects SET body = NULL WHERE key = 'a'"),  # breaks a rule of the table
        Change("DELETE FROM objects WHERE key = 'missing'"),
        Change(PUT, ("b", b"")),
    ]
    database._commit(changes)
    assert [change.has_changed for change in changes] == [True, False, False, True]
    assert [type(change.error) for change in changes] == [type(None), sqlite3.IntegrityError, type(None), type(None)]
    assert database.read("SELECT key FROM objects ORDER BY key") == [("a",), ("b",)]


def test_a_group_is_made_durable_once_and_only_if_it_changed_something(tmp_path: Path) -> None:
    """Nested groups are one; what another thread does meanwhile waits for its own fsync."""
    syncs: list[int] = []
    path = tmp_path / "objects.sqlite"
    create_database(path)
    database = Database(path, fsync=syncs.append, busy_s=5)
    syncs.clear()
    database.begin_group()
    database.change(PUT, ("a", b""))
    database.begin_group()
    database.change(PUT, ("b", b""))
    database.end_group()
    assert syncs == []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(database.change, PUT, ("c", b"")).result()
    assert len(syncs) == 1
    database.end_group()
    assert len(syncs) == 2
    database.begin_group()
    database.change("DELETE FROM objects WHERE key = ?", ("missing",))
    database.end_group()
    database.change("DELETE FROM objects WHERE key = ?", ("missing",))
    assert len(syncs) == 2


SLOW_QUERY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 50000) SELECT count(*) FROM c"


def test_reads_of_many_threads_share_a_few_files(database: Database) -> None:
    """They wait for each other, and leave no more open than they may use."""
    before = open_files()
    start = threading.Barrier(32)

    def read(_: int) -> list[tuple[int]]:
        start.wait()
        return database.read(SLOW_QUERY)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(read, range(32))) == [[(50_000,)]] * 32
    assert open_files() <= before + 3 * MAX_READERS


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StoreRefused),
        (sqlite3.SQLITE_READONLY, StoreRefused),
        (sqlite3.SQLITE_CANTOPEN, StoreRefused),
        (sqlite3.SQLITE_CORRUPT, StoreRefused),
        (sqlite3.SQLITE_NOTADB, StoreRefused),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_PROTOCOL, StoreUnavailable),
    ],
)
def test_errors_of_sqlite_are_translated(tmp_path: Path, code: int, expected: type[Exception]) -> None:
    """By what a person or a retry can do about them."""
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    with pytest.raises(expected, match="as SQLite says it"), translated(tmp_path):
        raise error


def test_errors_of_our_own_statements_are_not_translated(tmp_path: Path) -> None:
    """They are bugs."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a NOT NULL)")
    for statement, error in (
        ("SELECT ?", sqlite3.ProgrammingError),
        ("INSERT INTO t VALUES (NULL)", sqlite3.IntegrityError),
    ):
        with pytest.raises(error), translated(tmp_path):
            connection.execute(statement)
