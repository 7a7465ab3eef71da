"""COMPOSITION ROOT of the embedded service: every role in one process, or each in its own over the same store."""

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum

from infra.observability.tracing import attempt_tracers, open_tracer
from infra.queues.local import MemoryQueue, PollingQueue
from infra.runtime import wiring
from infra.runtime.background_threads import BackgroundThreads, WaitingQueue
from infra.runtime.http_server import Server
from infra.settings.service import Settings
from shared.log import log
from shared.repositories.batch_estimates import Prices
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.storage.ports import JobQueue, ObjectStore
from worker.maintenance.reconciler import Reconciler, half_hourly
from worker.runner.job_function import JobFunction
from worker.runner.worker import CrashIsolation, Worker

ENGINES = ("relief",)  # of this composition; the first is the default


class Role(StrEnum):
    """The part of the service that a process runs."""

    ALL = "all"
    GATEWAY = "gateway"
    WORKER = "worker"
    RECONCILER = "reconciler"
    SCHEDULER = "scheduler"
    NOTIFIER = "notifier"


@dataclass(slots=True)
class Service:
    """The embedded service, or one role of it. `work` replaces the job function, for tests of the rest."""

    settings: Settings
    role: Role = Role.ALL
    work: JobFunction | None = None
    base_url: str = ""
    _threads: BackgroundThreads = field(default_factory=BackgroundThreads)
    _server: Server | None = None

    def start(self) -> None:
        """Start this role's threads. Raises StoreRefused where the store cannot be used."""
        settings = self.settings
        store = wiring.open_store(settings)
        jobs = build_job_repository(store, announced=self._threads.wake_notifiers)
        queue: WaitingQueue = MemoryQueue() if self.role is Role.ALL else PollingQueue(jobs)
        if self.role in (Role.ALL, Role.GATEWAY):
            gateway = wiring.build_gateway_app(
                settings,
                store,
                jobs,
                queue,
                engines=ENGINES,
                parallel_jobs=settings.parallel_jobs,
                batches_changed=self._threads.wake_scheduler,
            )
            self._server = Server(gateway, settings.host, settings.port)
            self.base_url = self._server.start()
            log("gateway.ready", url=self.base_url)
        if self.role in (Role.ALL, Role.WORKER):
            self._threads.work(lambda: self._workers(store, jobs, queue), queue)
        if self.role in (Role.ALL, Role.RECONCILER):
            # In one process an enqueue costs nothing and the queue holds each id once: enqueue all that wait each time.
            requeue_after_s = 0.0 if self.role is Role.ALL else settings.requeue_after_s
            reconciler = Reconciler(
                jobs,
                queue,
                requeue_after_s=requeue_after_s,
                queue_ttl_s=settings.queue_ttl_s,
                collects_garbage=half_hourly(time.monotonic),
            )
            self._threads.run_reconciler(reconciler, settings.reconcile_interval_s)
        if self.role in (Role.ALL, Role.SCHEDULER):
            prices = Prices(usd_per_s=settings.usd_per_s, parallel_jobs=settings.parallel_jobs)
            self._threads.run_scheduler(
                wiring.build_batch_scheduler(settings, jobs, queue, ENGINES, prices), settings.reconcile_interval_s
            )
        if self.role in (Role.ALL, Role.NOTIFIER):
            self._threads.notify(wiring.build_outbox_relay(settings, jobs))

    def _workers(self, store: ObjectStore, jobs: JobRepository, queue: JobQueue) -> list[Worker]:
        settings = self.settings
        if (work := self.work) is None:
            from worker.engines.relief import Relief

            work = wiring.build_job_function(settings, store, {"relief": Relief()})
        tracers, isolation = attempt_tracers(open_tracer(settings)), CrashIsolation()
        on_progress = wiring.build_progress_notifier(settings, store).notify
        return [
            Worker(
                jobs=jobs,
                queue=queue,
                work=work,
                name=f"{socket.gethostname()}-{os.getpid()}-{number}",
                deadline_s=settings.deadline_s,
                usd_per_s=settings.usd_per_s,
                listeners=tracers,
                isolation=isolation,
                at=wiring.crash_point(settings.crash_at),
                on_progress=on_progress,
            )
            for number in range(settings.parallel_jobs)
        ]

    def stop(self) -> None:
        """Release the running jobs, then stop."""
        self._threads.shutdown()
        if self._server:
            self._server.stop()

    def run_until_signaled(self) -> None:
        """Start, wait for SIGINT or SIGTERM, stop, and end the process: running native code cannot delay it."""
        # A pipe, since an Event could deadlock: the handler may run while this very thread holds the Event's lock.
        woken, wake = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os.write(wake, b"!"))
        self.start()
        os.read(woken, 1)
        log("service.stopping")
        self.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
