"""How fast the embedded store is, next to plain SQLite over the same disk: `python -m bench.service.store`.

The peer is one table, `synchronous=FULL`, one connection a thread: a transaction and an fsync for each change. Rounds
alternate between the two, so that a busy machine slows both alike.
"""

import secrets
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from infra.embedded_store.store import SqliteStore
from shared.errors import PreconditionFailed

RECORD = secrets.token_hex(1_000).encode()  # as large as a job's record
ROUNDS = 5
CHANGES = 400
READS = 4_000
ENTRIES = 2_000

Rates = dict[str, float]


class PlainSqlite:
    """What the store's calls cost as single statements."""

    def __init__(self, root: Path) -> None:
        self._path = root / "plain.sqlite"
        self._thread = threading.local()
        self._db().execute("CREATE TABLE objects (key TEXT PRIMARY KEY, etag TEXT, body BLOB)")

    def _db(self) -> sqlite3.Connection:
        if not hasattr(self._thread, "db"):
            self._thread.db = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._thread.db.execute("PRAGMA journal_mode = WAL")
            self._thread.db.execute("PRAGMA synchronous = FULL")
        db: sqlite3.Connection = self._thread.db
        return db

    def put(self, key: str, body: bytes, *, if_match: str | None = None) -> str:
        """Write a row, if its condition holds."""
        etag = secrets.token_hex(16)
        if if_match is None:
            self._db().execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (key, etag, body))
        elif (
            not self._db()
            .execute("UPDATE objects SET etag = ?, body = ? WHERE key = ? AND etag = ?", (etag, body, key, if_match))
            .rowcount
        ):
            raise PreconditionFailed(key)
        return etag

    def group_commit(self) -> nullcontext[None]:
        """Each change by itself."""
        return nullcontext()

    def get(self, key: str) -> tuple[Any, ...]:
        """Read a row."""
        row: tuple[Any, ...] = self._db().execute("SELECT etag, body FROM objects WHERE key = ?", (key,)).fetchone()
        return row

    def list(self, prefix: str) -> list[Any]:
        """Keys with a prefix."""
        return self._db().execute("SELECT key FROM objects WHERE key GLOB ? ORDER BY key", (f"{prefix}*",)).fetchall()


def main() -> None:
    """Print the table."""
    kinds: tuple[Callable[[Path], Any], ...] = (PlainSqlite, lambda root: SqliteStore(root, secret=b"bench"))
    rounds: tuple[list[Rates], list[Rates]] = ([], [])
    for _ in range(ROUNDS):
        for kind, rates in zip(kinds, rounds, strict=True):
            with tempfile.TemporaryDirectory(prefix="store-") as folder:
                rates.append(measure(kind(Path(folder))))
    print(f"{ROUNDS} rounds in turns, medians, a second; records of {len(RECORD):,} bytes")
    print(f"{'':42} {'plain SQLite':>14} {'ours':>10} {'ratio':>8}")
    for name in rounds[0][0]:
        plain, ours = (statistics.median(rates[name] for rates in kind) for kind in rounds)
        ratio = statistics.median(b[name] / a[name] for a, b in zip(*rounds, strict=True))
        print(f"{name:42} {plain:14,.0f} {ours:10,.0f} {ratio:8.2f}")


def measure(store: Any) -> Rates:
    """Every rate of one store."""
    rates = {**measure_on(store, 1), **measure_on(store, 8)}
    with store.group_commit():
        for number in range(ENTRIES):
            store.put(f"list/{number:05d}", b"")
    began = time.perf_counter()
    assert len(list(store.list("list/"))) == ENTRIES
    return rates | {"entries of a list": ENTRIES / (time.perf_counter() - began)}


def measure_on(store: Any, threads: int) -> Rates:
    """The rates on so many threads."""
    etags = {thread: store.put(f"records/{thread}", RECORD) for thread in range(threads)}

    def create(thread: int, number: int) -> None:
        store.put(f"jobs/{threads}/{thread}-{number:05d}", RECORD)

    def change(thread: int, number: int) -> None:
        etags[thread] = store.put(f"records/{thread}", b"%d" % number + RECORD, if_match=etags[thread])

    def submit(thread: int, number: int) -> None:
        with store.group_commit():
            for marker in ("open", "callers", "inputs"):
                store.put(f"{marker}/{threads}/{thread}-{number:05d}", b"")
            store.put(f"submits/{threads}/{thread}-{number:05d}", RECORD)

    def get(_: int, number: int) -> None:
        store.get(f"jobs/{threads}/0-{number % (CHANGES // threads):05d}")

    calls = {
        "create": (create, CHANGES),
        "compare-and-set": (change, CHANGES),
        "three markers and a record, in a group": (submit, CHANGES),
        "get": (get, READS),
    }
    return {f"{name}; threads: {threads}": rate(call, threads, count) for name, (call, count) in calls.items()}


def rate(call: Callable[[int, int], None], threads: int, calls: int) -> float:
    """Calls a second, spread evenly over threads that start together."""
    start = threading.Barrier(threads + 1)

    def run(thread: int) -> None:
        start.wait()
        for number in range(calls // threads):
            call(thread, number)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, thread) for thread in range(threads)]
        start.wait()
        began = time.perf_counter()
        for future in futures:
            future.result()
        return calls / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
