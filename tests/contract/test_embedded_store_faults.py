"""The embedded store on a full, failing, read-only or damaged disk."""

import errno
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.embedded_store.store import SqliteStore
from shared.errors import StoreRefused, StoreUnavailable

BIG = bytes(200_000)


def open_store(root: Path) -> SqliteStore:
    """A store, by the machine's clock."""
    return SqliteStore(root, secret=b"secret")


# --- a full or read-only disk


FILLS_THE_DISK = """
import resource, sys
from pathlib import Path
from infra.embedded_store.store import SqliteStore
from shared.errors import StoreRefused

def refused(call):
    try:
        call()
    except StoreRefused:
        return True
    return False

def put_group():
    with store.group_commit():
        store.put("group", bytes(50_000))

store = SqliteStore(Path(sys.argv[1]), secret=b"secret")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
stored = 0
while not refused(lambda: store.put(f"{stored:03d}", bytes(2_000))):
    stored += 1
assert stored > 0
assert refused(lambda: store.put("large", bytes(200_000)))
assert refused(put_group)
assert [entry.key for entry in store.list("")] == [f"{number:03d}" for number in range(stored)]
assert store.get("000").body == bytes(2_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.put("after", bytes(200_000))
print(stored)
"""


def test_fault_14_a_full_disk_refuses_the_write(tmp_path: Path) -> None:
    """Nothing of it is seen. Reads go on, and writes once there is space. A limit on files stands for the disk."""
    command = [sys.executable, "-c", FILLS_THE_DISK, tmp_path]
    stored = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    keys = [entry.key for entry in open_store(tmp_path).list("")]
    assert keys == [*(f"{number:03d}" for number in range(stored)), "after"]
    assert len(list((tmp_path / "blobs").iterdir())) == 1


OPENS_READ_ONLY = """
import os, sys
from pathlib import Path
from infra.embedded_store.store import SqliteStore
from shared.errors import StoreRefused

if os.geteuid() == 0:
    os.seteuid(65_534)  # permissions do not bind root
try:
    SqliteStore(Path(sys.argv[1]), secret=b"secret")
except StoreRefused as error:
    print(error)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user reaches, and only its owner may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("is_new", [True, False])
def test_fault_31_a_read_only_folder_is_refused(public_folder: Path, is_new: bool) -> None:
    """At the start, by name."""
    if not is_new:
        open_store(public_folder).put("a", b"hello")
    public_folder.chmod(0o555)
    printed = subprocess.run(
        [sys.executable, "-c", OPENS_READ_ONLY, public_folder], check=True, capture_output=True, text=True
    ).stdout
    assert str(public_folder) in printed


# --- a disk that fails


class FailingDisk:
    """An fsync that fails at its `failing`th call from now on, once; 0 for never."""

    def __init__(self) -> None:
        self.failing = 0

    def fsync(self, number: int) -> None:
        """Fail, or do it."""
        self.failing -= 1
        if self.failing == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(number)


@pytest.fixture
def disk() -> FailingDisk:
    """A disk that works so far."""
    return FailingDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FailingDisk) -> SqliteStore:
    """An empty store on it."""
    return SqliteStore(tmp_path, secret=b"secret", fsync=disk.fsync)


def put_in_group(store: SqliteStore) -> None:
    """Two changes that share an fsync."""
    with store.group_commit():
        store.put("a", b"one")
        store.put("b", b"two")


@pytest.mark.parametrize("change", [lambda store: store.put("a", b"one"), put_in_group])
def test_fault_14_a_commit_that_cannot_be_made_durable_is_unavailable(
    store: SqliteStore, disk: FailingDisk, change: Callable[[SqliteStore], None]
) -> None:
    """It may have happened: the caller reads again. The next one is durable."""
    disk.failing = 1
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        change(store)
    assert store.get("a").body == b"one"
    store.put("c", b"three")


def test_fault_14_after_a_failed_fsync_the_log_is_written_again(
    store: SqliteStore, disk: FailingDisk, tmp_path: Path
) -> None:
    """Linux takes what it could not write for written: a later fsync alone would succeed and leave a gap."""

    def written_bytes() -> int:
        found = re.search(r"^wchar: (\d+)", Path("/proc/self/io").read_text(), re.M)
        assert found
        return int(found[1])

    for number in range(100):
        store.put(f"{number}", bytes(4_000))
    disk.failing = 1
    with pytest.raises(StoreUnavailable):
        store.put("a", b"one")
    log_bytes = (tmp_path / "objects.sqlite-wal").stat().st_size
    before = written_bytes()
    store.put("b", b"two")
    assert written_bytes() - before > log_bytes
    before = written_bytes()
    store.put("c", b"three")
    assert written_bytes() - before < log_bytes / 2


@pytest.mark.parametrize("failing", [1, 2])
def test_fault_14_a_large_body_that_cannot_be_made_durable_leaves_nothing(
    store: SqliteStore, disk: FailingDisk, tmp_path: Path, failing: int
) -> None:
    """Neither its file nor its row."""
    disk.failing = failing
    with pytest.raises(StoreUnavailable):
        store.put("a", BIG)
    assert list(store.list("")) == []
    assert list((tmp_path / "blobs").iterdir()) == []


def test_fault_14_a_large_body_whose_commit_may_have_failed_keeps_its_file(
    store: SqliteStore, disk: FailingDisk
) -> None:
    """Its row is there."""
    disk.failing = 3
    with pytest.raises(StoreUnavailable):
        store.put("a", BIG)
    assert store.get("a").body == BIG


# --- damage


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A store of many objects that no process has open."""
    root = tmp_path / "store"
    store = open_store(root)
    with store.group_commit():
        for number in range(300):
            store.put(f"{number:03d}", random.Random(number).randbytes(2_000))
    store.put("large", BIG)
    return root


def truncate(database: Path) -> None:
    """Lose the second half."""
    os.truncate(database, database.stat().st_size // 2)


def empty(database: Path) -> None:
    """Lose all."""
    os.truncate(database, 0)


def overwrite_head(database: Path) -> None:
    """Lose the first page."""
    with database.open("r+b") as file:
        file.write(b"?" * 4096)


def overwrite_middle(database: Path) -> None:
    """Lose every page but the first three."""
    size_bytes = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(random.Random(1).randbytes(size_bytes - 3 * 4096))


def remove(database: Path) -> None:
    """Lose the file."""
    database.unlink()


def remove_file(database: Path) -> None:
    """Lose the body of an object."""
    [blob] = (database.parent / "blobs").iterdir()
    blob.unlink()


@pytest.mark.parametrize("damage", [truncate, empty, overwrite_head, overwrite_middle, remove, remove_file])
def test_a_damaged_store_is_refused_with_the_way_out(closed: Path, damage: Callable[[Path], None]) -> None:
    """At the start, or where the damage is met; a damaged store is never taken for an empty one."""
    damage(closed / "objects.sqlite")
    with pytest.raises(StoreRefused, match=f"{closed} is damaged .*restore a backup"):
        read_all(closed)


def read_all(root: Path) -> None:
    """Open a store and read every object."""
    store = open_store(root)
    for entry in store.list(""):
        store.get(entry.key)


def test_the_layout_of_a_later_release_is_refused(closed: Path) -> None:
    """Rather than read wrongly."""
    connection = sqlite3.connect(closed / "objects.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StoreRefused, match="layout 2"):
        open_store(closed)
