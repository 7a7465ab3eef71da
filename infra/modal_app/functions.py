"""What the functions of the Modal app do, each in one call; built from the environment of their container."""

import logging
import os
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import modal
from fastapi import FastAPI

from infra.modal_app import weights
from infra.modal_app.gpu_lock import GpuLease
from infra.modal_app.invocations import InvocationSender, ModalFunction
from infra.modal_app.queue import ModalQueue
from infra.modal_app.rpc import BOUND_S, ModalCalls
from infra.modal_app.shutdown import shutdown
from infra.modal_app.worker_container import WorkerContainer
from infra.observability.tracing import attempt_tracers, open_tracer
from infra.queues.priority import FairScheduler
from infra.runtime.wiring import (
    build_batch_scheduler,
    build_gateway_app,
    build_job_function,
    build_outbox_relay,
    build_progress_notifier,
    open_store,
)
from infra.settings.cpu_quota import size_pools
from infra.settings.modal import ModalSettings, usd_per_s_of
from infra.settings.service import Settings
from shared.errors import QueueUnavailable
from shared.log import log, log_to_stderr
from shared.repositories.batch_estimates import Prices
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.storage.ports import ObjectStore
from worker.engine import Engine
from worker.maintenance.gc_schedule import at_minutes
from worker.maintenance.reconciler import Reconciler
from worker.runner.job_function import JobFunction
from worker.runner.worker import CrashIsolation, Worker

WEIGHTS = Path("/weights")
CACHES = Path("/caches")
SCHEDULE_S = 50.0  # the next one comes with the next minute, and goes on
RECONCILE_BOUND_S = 20.0  # no caller waits, and an enqueue first reads what the lanes hold
PROBE_BELIEVED_S = 24 * 3600.0
NOTIFY_S = 50.0  # the next one comes with the next minute
# What a first worker compiles, kept for the next one. Weights are read from the volume, never the network.
CACHE_VARIABLES = {
    "TRELLIS2_DATA_DIR": str(CACHES),
    "TRITON_CACHE_DIR": str(CACHES / "triton"),
    "HF_HUB_OFFLINE": "1",
}


@cache
def settings() -> Settings:
    """The service's settings; reading them also starts the log."""
    read = Settings()
    log_to_stderr(read.log_level)
    return read


def open_bucket() -> ObjectStore:
    """The store. Three containers start every minute, and seldom does a bucket change its ways."""
    return open_store(settings(), probe_believed_s=PROBE_BELIEVED_S)


def open_queue(worker: ModalFunction, bound_s: float = BOUND_S, *, clears_stale: bool = False) -> ModalQueue:
    """The app's doorbell; `worker` is the function that tickets go to, `bound_s` how long a ring may take."""
    layout = ModalSettings()
    calls = ModalCalls(bound_s=bound_s)
    queue = modal.Queue.from_name(layout.app_name, create_if_missing=True)
    tickets = InvocationSender(worker, calls, ceiling=layout.ceiling)
    return ModalQueue(queue, tickets, calls, FairScheduler(layout.lanes), clears_stale=clears_stale)


def open_job_repository(store: ObjectStore, notifier: ModalFunction) -> JobRepository:
    """The ledger; `notifier` is sent an input when a webhook is due, or the next minute would have to do."""
    return build_job_repository(store, announced=waker(notifier, "notifier"))


def waker(function: ModalFunction, name: str) -> Callable[[], None]:
    """Sends a function an input, unless one waits for it already; where that fails, its next minute has to do."""
    calls = ModalCalls()
    inputs = InvocationSender(function, calls, ceiling=1)

    def wake() -> None:
        try:
            inputs.spawn(1, calls.deadline())
        except QueueUnavailable as error:
            log(f"{name}.wake_failed", level=logging.WARNING, reason=str(error))

    return wake


def gateway(worker: ModalFunction, notifier: ModalFunction, scheduler: ModalFunction) -> FastAPI:
    """The gateway's ASGI app."""
    layout = ModalSettings()
    store = open_bucket()
    return build_gateway_app(
        settings(),
        store,
        open_job_repository(store, notifier),
        open_queue(worker),
        engines=layout.engines,
        parallel_jobs=layout.max_containers,
        batches_changed=waker(scheduler, "scheduler"),
    )


def load_engines() -> Mapping[str, Engine]:
    """The engines of a worker, their weights on the GPU; also what a memory snapshot holds."""
    from worker.engines.relief import Relief

    layout = ModalSettings()
    size_pools(layout.worker_cpu)
    engines: dict[str, Engine] = {"relief": Relief()}
    if layout.gpu:
        from worker.engines.trellis.engine import Trellis

        engines["trellis"] = Trellis.load(WEIGHTS)
    return engines


def start_worker(engines: Mapping[str, Engine], worker: ModalFunction, notifier: ModalFunction) -> WorkerContainer:
    """A container that is ready for its first ticket."""
    layout = ModalSettings()
    store = open_bucket()
    jobs, queue = open_job_repository(store, notifier), open_queue(worker)
    work = build_job_function(settings(), store, engines)
    tracers = attempt_tracers(open_tracer(settings()))
    container = os.environ.get("MODAL_TASK_ID", "container")
    # By the GPU that came, which may be a fall-back; an operator's own figure goes first.
    usd_per_s = settings().usd_per_s or (usd_per_s_of(name_gpu()) if layout.gpu else 0.0)

    herald = build_progress_notifier(settings(), store)

    def build(work: JobFunction, number: int, gpu: GpuLease, isolation: CrashIsolation) -> Worker:
        return Worker(
            jobs=jobs,
            queue=queue,
            work=work,
            name=f"{container}-{number}",
            deadline_s=settings().deadline_s,
            usd_per_s=usd_per_s,
            has_gpu=bool(layout.gpu),
            listeners=(*tracers, gpu.listen),
            isolation=isolation,
            on_progress=herald.notify,
        )

    return WorkerContainer(build, work, queue, shutdown)


def notify() -> None:
    """Deliver the webhooks that are due, and those that fall due meanwhile."""
    build_outbox_relay(settings(), build_job_repository(open_bucket())).run_until_idle(NOTIFY_S)


def reconcile(worker: ModalFunction, notifier: ModalFunction) -> None:
    """Reconcile once."""
    jobs = open_job_repository(open_bucket(), notifier)
    queue = open_queue(worker, RECONCILE_BOUND_S, clears_stale=True)
    Reconciler(
        jobs,
        queue,
        requeue_after_s=settings().requeue_after_s,
        queue_ttl_s=settings().queue_ttl_s,
        collects_garbage=at_minutes(jobs.now),
    ).reconcile()


def schedule(worker: ModalFunction, notifier: ModalFunction) -> None:
    """Dispatch and plan batches for `SCHEDULE_S`, or until nothing is left to plan."""
    layout = ModalSettings()
    jobs = open_job_repository(open_bucket(), notifier)
    queue = open_queue(worker, RECONCILE_BOUND_S)
    build_batch_scheduler(settings(), jobs, queue, layout.engines, prices_of(layout)).run_for(SCHEDULE_S)


def prices_of(layout: ModalSettings) -> Prices:
    """What a worker of this layout costs, for estimates."""
    usd_per_s = settings().usd_per_s or (usd_per_s_of(layout.gpu[0]) if layout.gpu else 0.0)
    return Prices(usd_per_s, bool(layout.gpu), layout.max_containers)


def fetch_weights(commit: Callable[[], object]) -> int:
    """Fill the weights volume; the bytes that were missing."""
    log_to_stderr()
    return weights.fetch(WEIGHTS, weights.Hub(os.environ.get("HF_TOKEN")), commit)


def name_gpu() -> str:
    """The GPU of this container. Raises CalledProcessError where there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - a constant
