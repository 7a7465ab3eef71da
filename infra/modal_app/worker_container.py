"""One worker container: a few invocations at a time, of which one samples on the GPU or is about to."""

import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from modal.experimental import stop_fetching_inputs

from infra.modal_app.gpu_lock import GpuLease, GpuLock
from infra.modal_app.queue import ModalQueue
from infra.settings.modal import INVOCATIONS_PER_CONTAINER
from shared.domain.job import Job
from shared.errors import GpuOutOfMemory, StoreError, WorkerUnfit
from shared.log import log
from worker.engine import Progress
from worker.runner.job_function import JobFunction, JobResult
from worker.runner.worker import CrashIsolation, Worker


def stop_fetching(
    stop: Callable[[], None] = stop_fetching_inputs,
    kill: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGINT),
) -> None:
    """Ask Modal for no more inputs: the process ends after the present ones. Where the call fails, interrupt it.

    Args:
        kill: what Modal does to a container that it preempts, which releases the jobs: SIGINT.
    """
    try:
        stop()
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises: an unfit process must take no other job
        log("worker.stop_failed", level=logging.ERROR, reason=f"{type(error).__name__}: {error}")
        kill()


def retire_after_gpu_failure(work: JobFunction, retire: Callable[[], None]) -> JobFunction:
    """Wrap a job function: call `retire` once the GPU failed or was too small for a job.

    A job that was too large fails, or runs again at a lower resolution, and its neighbours end as usual; but the GPU's
    free memory is then fragmented, so a fresh process must run the next job.
    """

    def run(job: Job, progress: Progress) -> JobResult:
        try:
            result = work(job, progress)
        except WorkerUnfit:
            retire()  # before the GPU is released: invocations that wait for it must not dequeue a job
            raise
        except GpuOutOfMemory:
            retire_for_memory(job)
            raise
        if result.out_of_memory:
            retire_for_memory(job)
        return result

    def retire_for_memory(job: Job) -> None:
        log("worker.out_of_memory", job_id=job.id, attempt=job.attempt)
        retire()

    return run


class WorkerContainer:
    """Runs invocations, `INVOCATIONS_PER_CONTAINER` at once, until it is shut down or unfit."""

    def __init__(
        self,
        build: Callable[[JobFunction, int, GpuLease, CrashIsolation], Worker],
        work: JobFunction,
        queue: ModalQueue,
        stop_fetching: Callable[[], None],
    ) -> None:
        """`build` creates worker number 0, 1, ... with its job function, its GPU lease and the container's isolation;
        `stop_fetching` asks Modal for no more inputs, and to end the process after the present ones."""
        self._queue = queue
        self._stop_fetching = stop_fetching
        self._gpu = GpuLock()
        work, isolation = retire_after_gpu_failure(work, self._retire), CrashIsolation()
        self._free: SimpleQueue[tuple[Worker, GpuLease]] = SimpleQueue()
        self._workers = []
        for number in range(INVOCATIONS_PER_CONTAINER):
            lease = GpuLease(self._gpu)
            self._workers.append(build(work, number, lease, isolation))
            self._free.put((self._workers[-1], lease))

    def run_once(self) -> None:
        """Run one job to its end and spawn the next invocation.

        Never raises for what a job or the store did: Modal would report an input as failed whose job is safe. With an
        unfit worker the process ends: the other invocations finish their jobs, or release them themselves.
        """
        worker, lease = self._free.get()
        try:
            if lease.acquire():
                worker.run_once()
        except WorkerUnfit as error:
            log("worker.unfit", worker=worker.name, reason=str(error))
        except StoreError as error:
            # None follows: the reconciler spawns one once the store answers again.
            log("invocation.ended_early", worker=worker.name, code=error.code)
        else:
            self._queue.spawn_next()
        finally:
            lease.release()
            self._free.put((worker, lease))

    def _retire(self) -> None:
        """Take no new inputs, and let no invocation that waits here dequeue a job."""
        self._gpu.close()
        self._stop_fetching()

    def shutdown(self) -> None:
        """Release every job, all at the same time: Modal allows thirty seconds, the contract five."""
        self._gpu.close()
        with ThreadPoolExecutor(len(self._workers)) as pool:
            list(pool.map(Worker.shutdown, self._workers))
