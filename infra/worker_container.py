"""One GPU container's worth of work: two tickets at a time, one of them on the GPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from infra.modal_queue import ModalQueue
from infra.parts import Work
from shared.errors import GpuOutOfMemory, StoreError, WorkerUnfit
from shared.job import Job
from shared.log import log
from worker.engine import Progress
from worker.made import Made
from worker.ticket import Worker


def leaving_after_out_of_memory(work: Work, stop_fetching: Callable[[], None]) -> Work:
    """The same work, by a process that takes no more of it once a job was too large for its GPU.

    The job fails, or runs again at less, and a neighbour ends in peace; but what is left of the GPU's memory is in
    pieces, so that a fresh process must take the next one.
    """

    def run(job: Job, progress: Progress) -> Made:
        try:
            return work(job, progress)
        except GpuOutOfMemory:
            log("worker.out_of_memory", job_id=job.id, attempt=job.attempt)
            stop_fetching()
            raise

    return run


class WorkerContainer:
    """Runs tickets, as many at once as there are workers, until it leaves or is unfit."""

    def __init__(self, workers: Sequence[Worker], queue: ModalQueue, stop_fetching: Callable[[], None]) -> None:
        """`stop_fetching` tells Modal to send no more inputs, and to end the process after those in hand."""
        self._workers = workers
        self._queue = queue
        self._stop_fetching = stop_fetching
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            self._free.put(worker)

    def run_ticket(self) -> None:
        """Run one job to its end and send the next ticket.

        Never raises for what a job or the store did: Modal would report an input as failed whose job is safe. With an
        unfit worker the process goes: the other ticket in hand ends in peace, or gives its job back on its own.
        """
        worker = self._free.get()
        try:
            worker.run_ticket()
        except WorkerUnfit as error:
            log("worker.unfit", worker=worker.name, reason=str(error))
            self._stop_fetching()
        except StoreError as error:
            # No ticket follows: the sweeper sends one once the store answers again.
            log("ticket.ended_early", worker=worker.name, code=error.code)
        else:
            self._queue.follow()
        finally:
            self._free.put(worker)

    def leave(self) -> None:
        """Give every job in hand back, all at the same time: Modal allows thirty seconds, the contract five."""
        with ThreadPoolExecutor(len(self._workers)) as leaving:
            list(leaving.map(Worker.leave, self._workers))
