"""COMPOSITION ROOT of the embedded service: every role in one process, or each in its own over the same store."""

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from infra.ledger_queue import LedgerQueue
from infra.memory import MemoryQueue
from infra.parts import Work, build_gateway, crash_point, open_store, work_with
from infra.settings import Settings
from shared.errors import StoreError, WorkerUnfit
from shared.ledger import Ledger
from shared.log import log
from shared.ports import JobQueue, ObjectStore
from worker.sweep import Sweeper
from worker.ticket import Worker

ENGINES = ("relief",)  # what this composition has; the first is the default
IDLE_S = 1.0
LEAVE_S = 3.0  # how long the work in hand gets to unwind once its job is handed back
STORE_PAUSE_S = 5.0  # after the store failed us, before the next ticket
UNFIT_EXIT = 70


class Role(StrEnum):
    """Which part of the service a process plays."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
    SWEEPER = "sweeper"


class WaitingQueue(JobQueue, Protocol):
    """A doorbell that a loop in this process can sleep beside."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until there may be something to take."""

    def wake(self) -> None:
        """End every such sleep."""


def relief_work(settings: Settings, store: ObjectStore) -> Work:
    """What this composition can do."""
    from worker.relief import Relief

    return work_with(settings, store, {"relief": Relief()})


@dataclass(slots=True)
class Loops:
    """The threads that work and sweep, until `leave`."""

    leaving: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: list[tuple[Worker, WaitingQueue]] = field(default_factory=list)

    def work(self, build: Callable[[], Worker], queue: WaitingQueue) -> None:
        """Run tickets in a thread of their own; the worker is built there, since it may take seconds to warm up."""

        def loop() -> None:
            worker = build()
            self.workers.append((worker, queue))
            log("worker.ready", worker=worker.name)
            while not self.leaving.is_set():
                try:
                    if not worker.run_ticket():
                        queue.wait(IDLE_S)
                except WorkerUnfit:
                    os._exit(UNFIT_EXIT)  # the job is back in the ledger; whoever started us starts us anew
                except StoreError:
                    self.leaving.wait(random.uniform(0.5, 1.0) * STORE_PAUSE_S)  # noqa: S311 - jitter, not a secret

        self._start(loop, "worker")

    def sweep(self, sweeper: Sweeper, every_s: float) -> None:
        """Sweep at once and then every `every_s` seconds."""

        def loop() -> None:
            while True:
                try:
                    sweeper.sweep()
                except StoreError as error:
                    log("sweep.failed", code=error.code)
                if self.leaving.wait(every_s):
                    return

        self._start(loop, "sweeper")

    def _start(self, loop: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=loop, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def leave(self) -> None:
        """Hand back every job in hand, then give the threads LEAVE_S to unwind."""
        self.leaving.set()
        for worker, queue in self.workers:
            worker.leave()
            queue.wake()
        until = time.monotonic() + LEAVE_S
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class Server:
    """uvicorn in a thread, on a socket that is bound before it starts, so that the port is known."""

    app: FastAPI
    host: str
    port: int
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen; return the base URL."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.host, self.port))
        self.port = bound.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who calls is decided by the connection, never by a header
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([bound],), name="gateway", daemon=True)
        self._thread.start()
        return f"http://{f'[{self.host}]' if family == socket.AF_INET6 else self.host}:{self.port}"

    def stop(self) -> None:
        """Finish the requests at work, for two seconds at most."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(4.0)


@dataclass(slots=True)
class Service:
    """The embedded service, or one role of it. `work` replaces the real work, for tests of everything around it."""

    settings: Settings
    role: Role = Role.ALL
    work: Work | None = None
    base_url: str = ""
    _loops: Loops = field(default_factory=Loops)
    _server: Server | None = None

    def start(self) -> None:
        """Start this role's threads. Raises StoreRefused where the store cannot be used."""
        settings = self.settings
        store = open_store(settings)
        ledger = Ledger(store)
        queue: WaitingQueue = MemoryQueue() if self.role is Role.ALL else LedgerQueue(ledger)
        if self.role in (Role.ALL, Role.GATEWAY):
            gateway = build_gateway(settings, store, ledger, queue, engines=ENGINES)
            self._server = Server(gateway, settings.host, settings.port)
            self.base_url = self._server.start()
            log("gateway.ready", url=self.base_url)
        if self.role in (Role.ALL, Role.WORKER):
            self._loops.work(lambda: self._worker(store, ledger, queue), queue)
        if self.role in (Role.ALL, Role.SWEEPER):
            # In one process a ring costs nothing and the queue holds each id once: ring for all that wait, each time.
            ring_after_s = 0.0 if self.role is Role.ALL else settings.ring_after_s
            sweeper = Sweeper(ledger, queue, ring_after_s=ring_after_s, queue_ttl_s=settings.queue_ttl_s)
            self._loops.sweep(sweeper, settings.sweep_s)

    def _worker(self, store: ObjectStore, ledger: Ledger, queue: JobQueue) -> Worker:
        return Worker(
            ledger=ledger,
            queue=queue,
            work=self.work or relief_work(self.settings, store),
            name=f"{socket.gethostname()}-{os.getpid()}",
            deadline_s=self.settings.deadline_s,
            usd_per_s=self.settings.usd_per_s,
            at=crash_point(self.settings.crash_at),
        )

    def stop(self) -> None:
        """Hand back the job in hand, then stop."""
        self._loops.leave()
        if self._server:
            self._server.stop()

    def run_until_signaled(self) -> None:
        """Start, wait for SIGINT or SIGTERM, stop, and end the process: native code at work cannot hold it up."""
        signaled = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: signaled.set())
        self.start()
        signaled.wait()
        log("service.leaving")
        self.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
