"""The object stores under one contract, each as its suite needs it."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from api.http.problem_details import add_error_handlers
from bench.support.ceph import Ceph, make_bucket
from bench.support.memory_store import MemoryStore
from infra.embedded_store.http import files_router
from infra.embedded_store.store import SqliteStore
from infra.s3.store import S3Store
from shared.storage.ports import ObjectStore

HOUR = timedelta(hours=1)
BUCKET = "contract"


@dataclass(frozen=True)
class Adapter:
    """One adapter.

    an_hour_ago: the same objects, by a clock that shows that. http: what a caller dials signed URLs with.
    open: another client of the same objects, as another process would have.
    """

    store: ObjectStore
    an_hour_ago: ObjectStore
    http: httpx.Client
    open: Callable[[], ObjectStore]


def open_files() -> int:
    """How many file descriptors this process has."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


@contextmanager
def memory_adapter() -> Iterator[Adapter]:
    """A store in memory: its signed URLs lead nowhere."""
    store = MemoryStore()
    with httpx.Client() as http:
        yield Adapter(store, store, http, lambda: store)


@contextmanager
def embedded_adapter(root: Path) -> Iterator[Adapter]:
    """The embedded store, with a server for its signed URLs."""
    app = FastAPI()
    add_error_handlers(app)  # as the gateway does
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    with serving(server) as url, httpx.Client() as http:

        def open_store(clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SqliteStore:
            return SqliteStore(root, secret=b"secret", base_url=url, clock=clock)

        store = open_store()
        app.include_router(files_router(store))
        yield Adapter(store, open_store(lambda: datetime.now(UTC) - HOUR), http, open_store)


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    """Run a server in a thread; gives its URL."""
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class S3StoreAnHourAgo(S3Store):
    """An S3 store that signs as it would have an hour ago."""

    def now(self) -> datetime:
        """The store's clock, an hour ago."""
        return super().now() - HOUR


@contextmanager
def ceph_adapter(ceph: Ceph, *, tls: bool) -> Iterator[Adapter]:
    """A bucket of a real S3 server."""
    options = ceph.options(BUCKET, tls=tls)
    make_bucket(ceph, BUCKET)

    def open_store(kind: type[S3Store] = S3Store) -> S3Store:
        store = kind(options)
        store.probe()
        return store

    with httpx.Client(verify=ssl.create_default_context(cafile=ceph.ca)) as http:
        yield Adapter(open_store(), open_store(S3StoreAnHourAgo), http, open_store)
