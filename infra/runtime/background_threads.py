"""The threads of a long-lived process: workers, reconciler, batch scheduler and notifier."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from shared.errors import StoreError, WorkerUnfit
from shared.log import log
from shared.storage.ports import JobQueue
from worker.batches.scheduler import BatchScheduler
from worker.maintenance.reconciler import Reconciler
from worker.runner.worker import Worker
from worker.webhooks.relay import OutboxRelay

IDLE_S = 1.0
STOP_S = 3.0  # for threads to end once their jobs are released
STORE_PAUSE_S = 5.0  # after a store error, before the next job
UNFIT_EXIT = 70


class WaitingQueue(JobQueue, Protocol):
    """A job queue that a thread of this process can wait for."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until there may be a job to dequeue."""

    def wake(self) -> None:
        """End every `wait`."""


@dataclass(slots=True)
class BackgroundThreads:
    """Starts the threads, and stops them at `shutdown`."""

    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: list[tuple[Worker, WaitingQueue]] = field(default_factory=list)
    notifiers: list[OutboxRelay] = field(default_factory=list)
    _batches_changed: dict[str, threading.Event] = field(
        default_factory=lambda: {"dispatcher": threading.Event(), "planner": threading.Event()}
    )

    def work(self, build: Callable[[], Sequence[Worker]], queue: WaitingQueue) -> None:
        """Run each worker in its own thread. The first thread builds them all, since that may take seconds."""

        def run(worker: Worker) -> None:
            log("worker.ready", worker=worker.name)
            while not self.stopping.is_set():
                try:
                    if not worker.run_once():
                        queue.wait(IDLE_S)
                except StoreError:
                    self.stopping.wait(random.uniform(0.5, 1.0) * STORE_PAUSE_S)  # noqa: S311 - jitter, not a secret

        def start() -> None:
            first, *others = build()
            self.workers += [(worker, queue) for worker in (first, *others)]
            for worker in others:
                self._start(partial(run, worker), "worker")
            run(first)

        self._start(start, "worker")

    def run_reconciler(self, reconciler: Reconciler, every_s: float) -> None:
        """Reconcile at once and then every `every_s` seconds."""

        def loop() -> None:
            while True:
                try:
                    reconciler.reconcile()
                except StoreError as error:
                    log("reconcile.failed", code=error.code)
                if self.stopping.wait(every_s):
                    return

        self._start(loop, "reconciler")

    def run_scheduler(self, scheduler: BatchScheduler, every_s: float) -> None:
        """Dispatch and plan batches, each in its own thread: every `every_s` seconds, and when a batch changes."""

        def plan() -> bool:
            has_more = scheduler.plan()
            if has_more:
                self._batches_changed["dispatcher"].set()
            return has_more

        self._start(lambda: self._run_batches(scheduler.dispatch, "dispatcher", every_s), "dispatcher")
        self._start(lambda: self._run_batches(plan, "planner", every_s), "planner")

    def wake_scheduler(self) -> None:
        """Dispatch and plan batches now."""
        for changed in self._batches_changed.values():
            changed.set()

    def _run_batches(self, step: Callable[[], bool | None], name: str, every_s: float) -> None:
        changed = self._batches_changed[name]
        while not self.stopping.is_set():
            changed.clear()
            try:
                if step():
                    continue
            except StoreError as error:
                log("schedule.failed", code=error.code)
            changed.wait(every_s)

    def notify(self, notifier: OutboxRelay) -> None:
        """Deliver webhooks as they become due."""
        self.notifiers.append(notifier)
        self._start(lambda: notifier.run(self.stopping), "notifier")

    def wake_notifiers(self) -> None:
        """Look for due webhooks now."""
        for notifier in self.notifiers:
            notifier.wake()

    def _start(self, loop: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=_or_exit, args=(loop, name), name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def shutdown(self) -> None:
        """Release every running job, then give the threads STOP_S to end."""
        self.stopping.set()
        self.wake_scheduler()
        with ThreadPoolExecutor(max(1, len(self.workers))) as pool:
            list(pool.map(Worker.shutdown, [worker for worker, _ in self.workers]))
        for _, queue in self.workers:
            queue.wake()
        self.wake_notifiers()
        until = time.monotonic() + STOP_S
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))


def _or_exit(loop: Callable[[], None], name: str) -> None:
    """Run a loop; an exception that escapes it ends the process.

    Without its worker or reconciler a service would accept jobs that never run. The running job is in the store, and
    the supervisor of the process starts it again.
    """
    try:
        loop()
    except WorkerUnfit as error:
        log("loop.unfit", level=logging.ERROR, loop=name, code=error.code, detail=str(error))
        os._exit(UNFIT_EXIT)
    except BaseException:  # noqa: BLE001 - nothing may end a loop in silence
        log("loop.died", level=logging.CRITICAL, exc_info=True, loop=name)
        os._exit(UNFIT_EXIT)
