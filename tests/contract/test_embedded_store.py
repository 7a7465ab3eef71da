"""What the embedded store adds to the contract: several processes, crashes, and its files."""

import gc
import hashlib
import multiprocessing
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import pytest

from infra.embedded_store.blobs import INLINE_BYTES
from infra.embedded_store.store import SqliteStore
from shared.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from tests.contract.adapters import open_files
from tests.support.fakes import ManualClock

BIG = Random(1).randbytes(200_000)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def open_store(root: Path) -> SqliteStore:
    """A store, by the machine's clock."""
    return SqliteStore(root, secret=b"secret")


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """An empty store."""
    return open_store(tmp_path)


def blobs(root: Path) -> list[Path]:
    """The files of large bodies."""
    return list((root / "blobs").iterdir())


def contents(store: SqliteStore) -> dict[str, bytes]:
    """Every object."""
    return {entry.key: store.get(entry.key).body for entry in store.list("")}


# --- crashes


CREATES_UNTIL_KILLED = """
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from infra.embedded_store.store import SqliteStore

store = SqliteStore(Path(sys.argv[1]), secret=b"secret")

def create(thread):
    number = 0
    while True:
        body = b"body of %d" % number * (10_000 if number % 10 == 9 else 1)
        store.put(f"jobs/{thread}/{number:06d}", body, if_absent=True)
        with store.group_commit():
            store.put(f"open/{thread}/{number:06d}", b"")
            store.put(f"callers/{thread}/{number:06d}", b"")
        os.write(1, b"%d %d\\n" % (thread, number))
        number += 1

for thread in range(int(sys.argv[2])):
    threading.Thread(target=create, args=(thread,)).start()
"""


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("acknowledged", [1, 10, 60])
def test_acknowledged_changes_survive_kill_9(tmp_path: Path, acknowledged: int, threads: int) -> None:
    """Whole, whatever the threads were doing; files that no object refers to are gone after the next start."""
    process = subprocess.Popen(
        [sys.executable, "-c", CREATES_UNTIL_KILLED, tmp_path, str(threads)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(acknowledged)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait()
    store = open_store(tmp_path)
    for line in lines:
        if line.endswith("\n"):
            thread, number = map(int, line.split())
            body = b"body of %d" % number * (10_000 if number % 10 == 9 else 1)
            assert store.get(f"jobs/{thread}/{number:06d}").body == body
            assert store.get(f"callers/{thread}/{number:06d}").body == b""
    large = [entry for entry in store.list("jobs/") if entry.size_bytes > INLINE_BYTES]
    assert len(blobs(tmp_path)) == len(large)


DIES_AT_FSYNC = """
import os, signal, sys
from pathlib import Path
from infra.embedded_store.store import SqliteStore

left = 0

def fsync(number):
    global left
    os.fsync(number)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

store = SqliteStore(Path(sys.argv[1]), secret=b"secret", fsync=fsync)
store.put("a", bytes(100_000))
left = int(sys.argv[2])
store.put("a", bytes(200_000))
"""


@pytest.mark.parametrize(
    ("fsync", "size_bytes"),
    [
        (1, 100_000),  # of the file
        (2, 100_000),  # of its name
        (3, 200_000),  # of the commit
        (4, 200_000),  # before the old file is deleted
    ],
)
def test_a_large_object_is_replaced_whole_or_not_at_all(tmp_path: Path, fsync: int, size_bytes: int) -> None:
    """Its process is killed at each fsync on the way; the next start deletes the file that is too many."""
    process = subprocess.run([sys.executable, "-c", DIES_AT_FSYNC, tmp_path, str(fsync)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(blobs(tmp_path)) == 2
    assert contents(open_store(tmp_path)) == {"a": bytes(size_bytes)}
    assert len(blobs(tmp_path)) == 1


class Disk:
    """What a power cut would leave of a store's folder: files and names as they were at their last fsync.

    SQLite itself makes the database durable, so that is taken as it is; no checkpoint happens in these tests.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = (root / "objects.sqlite").read_bytes()
        self.contents: dict[Path, bytes] = {}
        self.names: set[Path] = set()

    def fsync(self, number: int) -> None:
        """Note what a descriptor shows."""
        path = Path(f"/dev/fd/{number}").readlink()
        if path.is_dir():
            self.names |= set(path.iterdir())
        else:
            self.contents[path] = path.read_bytes()

    def after_power_cut(self, target: Path) -> SqliteStore:
        """The store that is found when the power is back."""
        (target / "blobs").mkdir(parents=True)
        (target / "objects.sqlite").write_bytes(self.database)
        for path in self.names & self.contents.keys():
            (target / path.relative_to(self.root)).write_bytes(self.contents[path])
        return open_store(target)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """The disk of an empty store that no process has open."""
    root = tmp_path / "store"
    subprocess.run([sys.executable, "-c", OPENS, root], check=True)
    return Disk(root)


OPENS = """
import sys
from pathlib import Path
from infra.embedded_store.store import SqliteStore
SqliteStore(Path(sys.argv[1]), secret=b"secret")
"""


def test_acknowledged_changes_survive_a_power_cut(disk: Disk, tmp_path: Path) -> None:
    """Of every kind; and a group's at its end."""
    store = SqliteStore(disk.root, secret=b"secret", fsync=disk.fsync)
    etags: dict[str, str] = {}

    def put_group() -> None:
        with store.group_commit():
            store.put("c", b"")
            store.put("d", BIG)
            store.copy("d", "e", if_match=hashlib.md5(BIG, usedforsecurity=False).hexdigest())

    changes: list[Callable[[], object]] = [
        lambda: etags.update(a=store.put("a", b"one", if_absent=True)),
        lambda: store.put("a", b"two", if_match=etags["a"]),
        lambda: etags.update(b=store.put("b", BIG)),
        lambda: store.copy("b", "copies/b", if_match=etags["b"]),
        lambda: store.put("b", BIG[1:]),
        put_group,
        lambda: store.delete("copies/b"),
        lambda: store.delete("a"),
    ]
    for number, change in enumerate(changes):
        change()
        found = contents(disk.after_power_cut(tmp_path / str(number)))
        assert found == contents(store)


def test_a_file_is_deleted_after_its_replacement_is_durable(disk: Disk) -> None:
    """Until then a power cut would bring the old row back."""
    states: list[tuple[int, int]] = []

    def fsync(_: int) -> None:
        states.append((len(blobs(disk.root)), len(list(observer.list("")))))

    store = SqliteStore(disk.root, secret=b"secret")
    store.put("a", BIG)
    observer = open_store(disk.root)
    store = SqliteStore(disk.root, secret=b"secret", fsync=fsync)
    states.clear()
    store.delete("a")
    assert states
    assert set(states) == {(1, 0)}
    assert blobs(disk.root) == []


def test_a_file_without_a_row_is_deleted_after_the_log_is_durable(disk: Disk) -> None:
    """Another process may have deleted the row a moment ago, and a power cut would bring it back."""
    (disk.root / "blobs" / "left").write_bytes(BIG)
    states: list[tuple[str, int]] = []

    def fsync(number: int) -> None:
        states.append((Path(f"/dev/fd/{number}").readlink().name, len(blobs(disk.root))))

    store = SqliteStore(disk.root, secret=b"secret", fsync=fsync)
    assert states[-1] == ("objects.sqlite-wal", 1)
    assert blobs(disk.root) == []
    assert list(store.list("")) == []


def test_a_torn_log_is_read_up_to_the_first_gap(store: SqliteStore, tmp_path: Path) -> None:
    """Changes of one thread and of a group: what survives is always what came first."""
    for number in range(10):
        store.put(f"{number:03d}", b"x" * number * 100)
    with store.group_commit():
        for number in range(10, 30):
            store.put(f"{number:03d}", b"x" * number * 100)
    written = [entry.key for entry in store.list("")]
    log = (tmp_path / "objects.sqlite-wal").read_bytes()
    shutil.copytree(tmp_path, tmp_path / "copy")
    random = Random(1)
    lengths = set()
    for cut in range(40):
        position = random.randrange(len(log))
        torn = log[:position] if cut % 2 else log[:position] + bytes([log[position] ^ 1]) + log[position + 1 :]
        target = tmp_path / f"torn-{cut}"
        shutil.copytree(tmp_path / "copy", target)
        (target / "objects.sqlite-shm").unlink(missing_ok=True)
        (target / "objects.sqlite-wal").write_bytes(torn)
        keys = [entry.key for entry in open_store(target).list("")]
        assert keys == written[: len(keys)]
        lengths.add(len(keys))
    assert len(lengths) > 5


# --- several processes


def count_in(root: Path, times: int) -> None:
    """Add to a number by compare-and-set."""
    store = open_store(root)
    for _ in range(times):
        while True:
            fetched = store.get("number")
            try:
                store.put("number", str(int(fetched.body) + 1).encode(), if_match=fetched.etag)
            except PreconditionFailed:
                continue
            break


def test_fault_15_processes_on_one_record_lose_no_update(store: SqliteStore, tmp_path: Path) -> None:
    """Four processes count to 25 each, in one record."""
    store.put("number", b"0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_in, args=(tmp_path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert store.get("number").body == b"100"


def open_and_put(root: Path, number: int) -> None:
    """What a process does at its start."""
    open_store(root).put(f"{number}", BIG)


def test_processes_may_create_one_store_at_once(tmp_path: Path) -> None:
    """One of them creates it, and no process loses its first object."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_put, args=(tmp_path / "new", number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert contents(open_store(tmp_path / "new")) == {f"{number}": BIG for number in range(4)}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"blobs", "objects.sqlite"}


def test_a_change_is_given_up_while_another_process_keeps_the_database_locked(tmp_path: Path) -> None:
    """As one that was stopped in the middle of a change. Reads go on, and so do changes once it is over."""
    store = SqliteStore(tmp_path, secret=b"secret", busy_s=0.05)
    store.put("a", b"one")
    other = sqlite3.connect(tmp_path / "objects.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.put("a", b"two")
    with pytest.raises(StoreUnavailable, match="locked"), store.group_commit():
        store.put("a", b"two")
    assert store.get("a").body == b"one"
    other.execute("ROLLBACK")
    other.close()
    store.put("a", b"two")
    assert store.get("a").body == b"two"


FORKS = """
import os, sys
from pathlib import Path
from infra.embedded_store.store import SqliteStore
from shared.errors import StoreUnavailable

store = SqliteStore(Path(sys.argv[1]), secret=b"secret")
store.put("a", b"one")
if os.fork() == 0:
    for call in (lambda: store.put("a", b"two"), lambda: store.get("a")):
        try:
            call()
        except StoreUnavailable:
            continue
        os._exit(1)
    os._exit(0)
_, status = os.wait()
store.put("a", b"three")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_may_not_use_the_store_of_its_parent(tmp_path: Path) -> None:
    """SQLite's locks are the parent's: the database would be damaged. The parent goes on."""
    subprocess.run([sys.executable, "-c", FORKS, tmp_path], check=True)
    assert open_store(tmp_path).get("a").body == b"three"


# --- reading and threads


def test_a_read_during_changes_is_of_one_version(store: SqliteStore) -> None:
    """Body, size and ETag belong together, for small objects and for large ones, whose files come and go."""
    bodies = [b"small", b"x" * 100_000, b"yy" * 70_000]
    store.put("a", bodies[0])
    done = threading.Event()

    def change() -> None:
        for number in range(60):
            store.put("a", bodies[number % 3])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        while not done.is_set():
            fetched = store.get("a")
            assert fetched.size_bytes == len(fetched.body)
            assert fetched.etag == hashlib.md5(fetched.body, usedforsecurity=False).hexdigest()


def test_an_open_object_keeps_its_version(store: SqliteStore) -> None:
    """Though it is replaced and its file deleted."""
    store.put("a", BIG)
    with store.open("a").file as file:
        store.put("a", b"small")
        assert file.read() == BIG


def test_a_store_that_is_dropped_closes_its_files(tmp_path: Path) -> None:
    """Processes that open many, as tests do, do not run out."""
    open_store(tmp_path).put("a", b"hello")
    gc.collect()
    before = open_files()
    for _ in range(20):
        assert open_store(tmp_path).get("a").body == b"hello"
    gc.collect()
    assert open_files() < before + 10


# --- files


@pytest.mark.parametrize("size_bytes", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 3_000_000])
def test_only_large_bodies_are_files(store: SqliteStore, tmp_path: Path, size_bytes: int) -> None:
    """Smaller ones are in their row."""
    store.put("a", BIG[:size_bytes].ljust(size_bytes, b"x"))
    assert store.get("a").body == BIG[:size_bytes].ljust(size_bytes, b"x")
    assert len(blobs(tmp_path)) == (size_bytes > INLINE_BYTES)


def test_a_large_body_is_written_without_a_copy_in_memory(store: SqliteStore) -> None:
    """48 MB of it take less than 8 more, written and read in pieces."""
    body = bytes(48_000_000)
    tracemalloc.start()
    store.put("a", body)
    assert store.get("a", first_byte=10, length=5).body == bytes(5)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8_000_000


def test_staged_files_of_other_processes_stay(tmp_path: Path) -> None:
    """A start during an upload takes nothing from it, neither before its row is there nor after."""
    store = open_store(tmp_path)
    with store.stage() as staged:
        staged.write(BIG)
        open_store(tmp_path)
        store.publish(staged, "a")
        open_store(tmp_path)
    assert store.get("a").body == BIG


def test_staged_files_that_are_not_published_leave_nothing(store: SqliteStore, tmp_path: Path) -> None:
    """An upload that breaks off, and a change that is refused."""
    with store.stage() as staged:
        staged.write(BIG)
        assert len(blobs(tmp_path)) == 1
    store.put("a", b"")
    with pytest.raises(PreconditionFailed):
        store.put("a", BIG, if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("b", BIG, if_match="other")
    assert (blobs(tmp_path), contents(store)) == ([], {"a": b""})


def test_a_copy_takes_no_space(store: SqliteStore, tmp_path: Path) -> None:
    """Copies share a file, which goes with the last of them."""
    etag = store.put("a", BIG)
    store.copy("a", "b", if_match=etag)
    store.copy("a", "b", if_match=etag)
    store.copy("a", "a", if_match=etag)
    assert len(blobs(tmp_path)) == 1
    store.put("a", b"small")
    assert store.get("b").body == BIG
    with store.group_commit():
        store.delete("b")
    assert blobs(tmp_path) == []


def test_a_copy_is_dated_anew_and_its_source_is_not(tmp_path: Path) -> None:
    """As in a bucket: what was just copied is not taken for old garbage."""
    clock = ManualClock(NOON)
    store = SqliteStore(tmp_path, secret=b"secret", clock=clock)
    etag = store.put("a", BIG)
    clock.advance(60)
    store.copy("a", "b", if_match=etag)
    ages = [(clock() - entry.modified_at).total_seconds() for entry in store.list("")]
    assert ages == [60, 0]


def test_a_copy_during_changes_is_of_the_version_that_was_named(store: SqliteStore) -> None:
    """Or it is refused; it never takes a version that came after the check."""
    expected = store.put("a", b"expected")
    done = threading.Event()

    def change() -> None:
        for number in range(300):
            store.put("a", b"changed" if number % 2 else b"expected")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        while not done.is_set():
            with suppress(PreconditionFailed):
                store.copy("a", "b", if_match=expected)
                assert store.get("b").body == b"expected"


def test_large_objects_that_come_and_go_in_many_threads_leave_no_files(store: SqliteStore, tmp_path: Path) -> None:
    """Eight threads put, copy and delete over the same keys, in groups and outside of them."""

    def come_and_go(number: int) -> None:
        random = Random(number)
        for _ in range(15):
            key, target = (f"{random.randrange(3)}" for _ in range(2))
            etag = store.put(key, BIG[: 100_000 + random.randrange(2)])
            with suppress(PreconditionFailed, ObjectNotFound):
                store.copy(key, target, if_match=etag)
            with store.group_commit():
                store.delete(target)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    assert all(len(body) >= 100_000 for body in contents(store).values())
    for entry in store.list(""):
        store.delete(entry.key)
    assert blobs(tmp_path) == []


# --- clock and secret


def test_objects_are_dated_by_the_stores_clock(tmp_path: Path) -> None:
    """To the microsecond, whatever the machine's date is."""
    clock = ManualClock(NOON.replace(microsecond=123_457))
    store = SqliteStore(tmp_path, secret=b"secret", clock=clock)
    store.put("a", b"hello")
    clock.advance(31.5)
    fetched = store.get("a")
    assert fetched.modified_at == NOON.replace(microsecond=123_457)
    assert (fetched.read_at - fetched.modified_at).total_seconds() == 31.5
    assert [entry.modified_at for entry in store.list("")] == [fetched.modified_at]


def test_a_secret_is_required(tmp_path: Path) -> None:
    """With an empty one everybody could sign."""
    with pytest.raises(ValueError, match="secret"):
        SqliteStore(tmp_path, secret=b"")


def test_a_signature_with_another_secret_is_refused(tmp_path: Path) -> None:
    """Each store has its own."""
    url = httpx.URL(SqliteStore(tmp_path, secret=b"other").sign_get("a", expires_s=60))
    assert not open_store(tmp_path).signer.allows_get("a", dict(url.params), now=datetime.now(UTC))
