"""One GPU container's worth of work: a few tickets at a time, one of them on the GPU or about to be."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from infra.modal_app.gpu_lock import GpuLease, GpuLock
from infra.modal_app.queue import ModalQueue
from infra.settings.modal import INVOCATIONS_PER_CONTAINER
from shared.domain.job import Job
from shared.errors import GpuOutOfMemory, StoreError, WorkerUnfit
from shared.log import log
from worker.engine import Progress
from worker.runner.job_function import JobFunction, JobResult
from worker.runner.worker import CrashIsolation, Worker


def retire_after_gpu_failure(work: JobFunction, take_no_more: Callable[[], None]) -> JobFunction:
    """The same work, by a process that takes no more of it once its GPU failed, or was too small for a job.

    A job that was too large fails, or runs again at less, and its neighbours end in peace; but what is left of the
    GPU's memory is in pieces, so that a fresh process must take the next one.
    """

    def run(job: Job, progress: Progress) -> JobResult:
        try:
            made = work(job, progress)
        except WorkerUnfit:
            take_no_more()  # before the turn passes on: tickets that wait for it must not take a job
            raise
        except GpuOutOfMemory:
            leave(job)
            raise
        if made.out_of_memory:
            leave(job)
        return made

    def leave(job: Job) -> None:
        log("worker.out_of_memory", job_id=job.id, attempt=job.attempt)
        take_no_more()

    return run


class WorkerContainer:
    """Runs tickets, `TICKETS_PER_CONTAINER` at once, until it leaves or is unfit."""

    def __init__(
        self,
        build: Callable[[JobFunction, int, GpuLease, CrashIsolation], Worker],
        work: JobFunction,
        queue: ModalQueue,
        stop_fetching: Callable[[], None],
    ) -> None:
        """`build` makes worker number 0, 1, ... around its work, its lease of the GPU and the container's isolation;
        `stop_fetching` tells Modal to send no more inputs, and to end the process after those in hand."""
        self._queue = queue
        self._stop_fetching = stop_fetching
        self._turns = GpuLock()
        work, isolation = retire_after_gpu_failure(work, self._take_no_more), CrashIsolation()
        self._free: SimpleQueue[tuple[Worker, GpuLease]] = SimpleQueue()
        self._workers = []
        for number in range(INVOCATIONS_PER_CONTAINER):
            turn = GpuLease(self._turns)
            self._workers.append(build(work, number, turn, isolation))
            self._free.put((self._workers[-1], turn))

    def run_once(self) -> None:
        """Run one job to its end and send the next ticket.

        Never raises for what a job or the store did: Modal would report an input as failed whose job is safe. With an
        unfit worker the process goes: the other tickets in hand end in peace, or give their jobs back on their own.
        """
        worker, turn = self._free.get()
        try:
            if turn.take():
                worker.run_once()
        except WorkerUnfit as error:
            log("worker.unfit", worker=worker.name, reason=str(error))
        except StoreError as error:
            # No ticket follows: the sweeper sends one once the store answers again.
            log("invocation.ended_early", worker=worker.name, code=error.code)
        else:
            self._queue.spawn_next()
        finally:
            turn.release()
            self._free.put((worker, turn))

    def _take_no_more(self) -> None:
        """Neither new inputs nor, for tickets that wait here already, a job."""
        self._turns.close()
        self._stop_fetching()

    def shutdown(self) -> None:
        """Give every job in hand back, all at the same time: Modal allows thirty seconds, the contract five."""
        self._turns.close()
        with ThreadPoolExecutor(len(self._workers)) as leaving:
            list(leaving.map(Worker.shutdown, self._workers))
