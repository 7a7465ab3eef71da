"""The threads of a long-lived process that work, sweep, tend batches and notify."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import StoreError, WorkerUnfit
from shared.log import log
from shared.ports import JobQueue
from worker.notify import Notifier
from worker.sweep import Sweeper
from worker.tend import Tender
from worker.ticket import Worker

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
class Loops:
    """The threads that work, sweep, tend batches and notify, until `leave`.

    batches_changed: set it to have batches tended at once.
    """

    leaving: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    workers: list[tuple[Worker, WaitingQueue]] = field(default_factory=list)
    notifiers: list[Notifier] = field(default_factory=list)
    batches_changed: threading.Event = field(default_factory=threading.Event)

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

    def tend(self, tender: Tender, every_s: float) -> None:
        """Tend batches every `every_s` seconds, and at once when one has changed or is still to be planned."""

        def loop() -> None:
            while not self.leaving.is_set():
                self.batches_changed.clear()
                try:
                    while tender.tend() and not self.leaving.is_set():
                        pass
                except StoreError as error:
                    log("tend.failed", code=error.code)
                self.batches_changed.wait(every_s)

        self._start(loop, "tender")

    def notify(self, notifier: Notifier) -> None:
        """Deliver webhooks as they fall due."""
        self.notifiers.append(notifier)
        self._start(lambda: notifier.run(self.leaving), "notifier")

    def _start(self, loop: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=_or_exit, args=(loop, name), name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def leave(self) -> None:
        """Hand back every job in hand, then give the threads LEAVE_S to unwind."""
        self.leaving.set()
        self.batches_changed.set()
        for worker, queue in self.workers:
            worker.leave()
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
