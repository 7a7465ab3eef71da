"""The threads of a long-lived process that work, sweep, tend batches and notify."""

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
LEAVE_S = 3.0  # how long the work in hand gets to unwind once its job is handed back
STORE_PAUSE_S = 5.0  # after the store failed us, before the next ticket
UNFIT_EXIT = 70


class WaitingQueue(JobQueue, Protocol):
    """A doorbell that a loop in this process can sleep beside."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until there may be something to take."""

    def wake(self) -> None:
        """End every such sleep."""


@dataclass(slots=True)
class BackgroundThreads:
    """The threads that work, sweep, tend batches and notify, until `leave`."""

    leaving: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: list[tuple[Worker, WaitingQueue]] = field(default_factory=list)
    notifiers: list[OutboxRelay] = field(default_factory=list)
    _batches_changed: dict[str, threading.Event] = field(
        default_factory=lambda: {"feeder": threading.Event(), "planner": threading.Event()}
    )

    def work(self, build: Callable[[], Sequence[Worker]], queue: WaitingQueue) -> None:
        """Run tickets, each worker in a thread of its own; they are built in one, since that may take seconds."""

        def run(worker: Worker) -> None:
            log("worker.ready", worker=worker.name)
            while not self.leaving.is_set():
                try:
                    if not worker.run_once():
                        queue.wait(IDLE_S)
                except StoreError:
                    self.leaving.wait(random.uniform(0.5, 1.0) * STORE_PAUSE_S)  # noqa: S311 - jitter, not a secret

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
                if self.leaving.wait(every_s):
                    return

        self._start(loop, "reconciler")

    def run_scheduler(self, scheduler: BatchScheduler, every_s: float) -> None:
        """Feed batches every `every_s` seconds, and plan new ones, beside each other; at once when one has changed."""

        def feed() -> bool:
            scheduler.dispatch()
            return False

        def plan() -> bool:
            has_more = scheduler.plan()
            if has_more:
                self._batches_changed["feeder"].set()
            return has_more

        self._start(lambda: self._tend(feed, "feeder", every_s), "feeder")
        self._start(lambda: self._tend(plan, "planner", every_s), "planner")

    def wake_scheduler(self) -> None:
        """Have batches looked at now."""
        for changed in self._batches_changed.values():
            changed.set()

    def _tend(self, do: Callable[[], bool], name: str, every_s: float) -> None:
        changed = self._batches_changed[name]
        while not self.leaving.is_set():
            changed.clear()
            try:
                if do():
                    continue
            except StoreError as error:
                log("schedule.failed", code=error.code)
            changed.wait(every_s)

    def notify(self, notifier: OutboxRelay) -> None:
        """Deliver webhooks as they fall due."""
        self.notifiers.append(notifier)
        self._start(lambda: notifier.run(self.leaving), "notifier")

    def _start(self, loop: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=_or_exit, args=(loop, name), name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def shutdown(self) -> None:
        """Hand back every job in hand, then give the threads LEAVE_S to unwind."""
        self.leaving.set()
        self.wake_scheduler()
        with ThreadPoolExecutor(max(1, len(self.workers))) as leaving:
            list(leaving.map(Worker.shutdown, [worker for worker, _ in self.workers]))
        for _, queue in self.workers:
            queue.wake()
        for notifier in self.notifiers:
            notifier.wake()
        until = time.monotonic() + LEAVE_S
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))


def _or_exit(loop: Callable[[], None], name: str) -> None:
    """Run a loop; what escapes it ends the process.

    A service whose worker or sweeper is gone would accept jobs that nobody runs. The job in hand is in the ledger;
    whoever started this process starts it anew.
    """
    try:
        loop()
    except WorkerUnfit as error:
        log("loop.unfit", level=logging.ERROR, loop=name, code=error.code, detail=str(error))
        os._exit(UNFIT_EXIT)
    except BaseException:  # noqa: BLE001 - nothing may end a loop in silence
        log("loop.died", level=logging.CRITICAL, exc_info=True, loop=name)
        os._exit(UNFIT_EXIT)
