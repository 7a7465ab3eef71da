"""COMPOSITION ROOT of the embedded service: every role in one process, or each in its own over the same store."""

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum

from infra.observability.tracing import open_tracer, traced
from infra.queues.memory import MemoryQueue
from infra.queues.polling import LedgerQueue
from infra.runtime.background_threads import Loops, WaitingQueue
from infra.runtime.http_server import Server
from infra.runtime.wiring import (
    build_gateway,
    build_herald,
    build_notifier,
    build_tender,
    crash_point,
    open_store,
    work_with,
)
from infra.settings.service import Settings
from shared.log import log
from shared.repositories.batch_estimates import Prices
from shared.repositories.jobs import Ledger
from shared.storage.ports import JobQueue, ObjectStore
from worker.maintenance.gc_schedule import half_hourly
from worker.maintenance.reconciler import Sweeper
from worker.runner.crash_isolation import Company
from worker.runner.result import Work
from worker.runner.worker import Worker

ENGINES = ("relief",)  # what this composition has; the first is the default


class Role(StrEnum):
    """Which part of the service a process plays."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
    SWEEPER = "sweeper"
    NOTIFIER = "notifier"


def relief_work(settings: Settings, store: ObjectStore) -> Work:
    """What this composition can do."""
    from worker.engines.relief import Relief

    return traced(work_with(settings, store, {"relief": Relief()}), open_tracer(settings))


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
        ledger = Ledger(store, announced=self._wake_notifiers)
        queue: WaitingQueue = MemoryQueue() if self.role is Role.ALL else LedgerQueue(ledger)
        if self.role in (Role.ALL, Role.GATEWAY):
            changed = self._loops.wake_tender
            gateway = build_gateway(
                settings,
                store,
                ledger,
                queue,
                engines=ENGINES,
                parallel_jobs=settings.parallel_jobs,
                batches_changed=changed,
            )
            self._server = Server(gateway, settings.host, settings.port)
            self.base_url = self._server.start()
            log("gateway.ready", url=self.base_url)
        if self.role in (Role.ALL, Role.WORKER):
            self._loops.work(lambda: self._workers(store, ledger, queue), queue)
        if self.role in (Role.ALL, Role.SWEEPER):
            # In one process a ring costs nothing and the queue holds each id once: ring for all that wait, each time.
            ring_after_s = 0.0 if self.role is Role.ALL else settings.ring_after_s
            sweeper = Sweeper(
                ledger,
                queue,
                ring_after_s=ring_after_s,
                queue_ttl_s=settings.queue_ttl_s,
                wants_leftovers=half_hourly(time.monotonic),
            )
            self._loops.sweep(sweeper, settings.sweep_s)
            prices = Prices(usd_per_s=settings.usd_per_s, parallel_jobs=settings.parallel_jobs)
            self._loops.tend(build_tender(settings, ledger, queue, ENGINES, prices), settings.sweep_s)
        if self.role in (Role.ALL, Role.NOTIFIER):
            self._loops.notify(build_notifier(settings, ledger))

    def _wake_notifiers(self) -> None:
        for notifier in self._loops.notifiers:
            notifier.wake()

    def _workers(self, store: ObjectStore, ledger: Ledger, queue: JobQueue) -> list[Worker]:
        settings = self.settings
        work = Company().around(self.work or relief_work(settings, store))
        told = build_herald(settings, store).tell
        return [
            Worker(
                ledger=ledger,
                queue=queue,
                work=work,
                name=f"{socket.gethostname()}-{os.getpid()}-{number}",
                deadline_s=settings.deadline_s,
                usd_per_s=settings.usd_per_s,
                at=crash_point(settings.crash_at),
                told=told,
            )
            for number in range(settings.parallel_jobs)
        ]

    def stop(self) -> None:
        """Hand back the jobs in hand, then stop."""
        self._loops.leave()
        if self._server:
            self._server.stop()

    def run_until_signaled(self) -> None:
        """Start, wait for SIGINT or SIGTERM, stop, and end the process: native code at work cannot hold it up."""
        # A pipe, since an Event could deadlock: the handler may run while this very thread holds the Event's lock.
        woken, wake = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os.write(wake, b"!"))
        self.start()
        os.read(woken, 1)
        log("service.leaving")
        self.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
