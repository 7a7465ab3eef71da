"""The container images of the Modal app, and what each of its functions does, in one call.

A function builds what it needs from the environment of its container.
"""

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
from infra.modal_app.invocations import BOUND_S, InvocationSender, ModalCalls, ModalFunction
from infra.modal_app.queue import ModalQueue
from infra.modal_app.worker_container import WorkerContainer, stop_fetching
from infra.observability.tracing import attempt_tracers, open_tracer
from infra.queues.priority import FairScheduler
from infra.runtime import wiring
from infra.settings.modal import ModalSettings, size_pools, usd_per_s_of
from infra.settings.service import Settings
from shared.errors import QueueUnavailable
from shared.log import log, log_to_stderr
from shared.repositories.batch_estimates import Prices
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository
from shared.storage.ports import ObjectStore
from worker.engine import Engine
from worker.maintenance.reconciler import Reconciler, at_gc_minutes
from worker.runner.job_function import JobFunction
from worker.runner.worker import CrashIsolation, Worker

PYTHON = "3.11"
CODE = ("api", "worker", "shared", "infra")
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "api" / "web"
REQUIREMENTS = ROOT / "infra" / "requirements"
WEIGHTS = Path("/weights")
CACHES = Path("/caches")
SCHEDULE_S = 50.0  # the next run begins with the next minute, and goes on
RECONCILE_BOUND_S = 20.0  # no caller waits, and an enqueue first reads what the lanes hold
PROBE_VALID_S = 24 * 3600.0
NOTIFY_S = 50.0  # the next run begins with the next minute
# Where kernels that one worker compiles are kept for the next. Weights are read from the volume, never the network.
CACHE_VARIABLES = {
    "TRELLIS2_DATA_DIR": str(CACHES),
    "TRITON_CACHE_DIR": str(CACHES / "triton"),
    "HF_HUB_OFFLINE": "1",
}


def cpu_image() -> modal.Image:
    """Build the image of all CPU functions, and of workers without a GPU."""
    base = modal.Image.debian_slim(python_version=PYTHON)
    service = base.pip_install_from_requirements(str(REQUIREMENTS / "service.txt"))
    return _with_code(service.pip_install_from_requirements(str(REQUIREMENTS / "hub.txt")))


def gpu_image() -> modal.Image:
    """Build the image of workers that run TRELLIS.2: PyTorch with its CUDA wheels, and a compiler for Triton.

    CuMesh, FlexGEMM and o_voxel are not needed; nvdiffrast, nvdiffrec and RMBG-2.0 are not for commercial use, and
    flash-attn takes an hour to compile. The image has none of them.
    """
    base = modal.Image.debian_slim(python_version=PYTHON).apt_install("build-essential")
    torch = base.pip_install_from_requirements(str(REQUIREMENTS / "gpu.txt"))
    return _with_code(torch.pip_install_from_requirements(str(REQUIREMENTS / "service.txt")))


def _with_code(image: modal.Image) -> modal.Image:
    """Mount our code when a container starts: a change of it rebuilds no layer."""
    image = image.add_local_python_source(*CODE)
    # Modal mounts Python sources only: the files of the page are named apart.
    return image.add_local_dir(PAGE, "/root/api/web", ignore=["**/*.py"]) if PAGE.is_dir() else image


@cache
def settings() -> Settings:
    """Read the service's settings, once, and start the log."""
    loaded = Settings()
    log_to_stderr(loaded.log_level)
    return loaded


def open_bucket() -> ObjectStore:
    """Open the store. Its last probe counts for a day: three containers start every minute."""
    return wiring.open_store(settings(), probe_valid_s=PROBE_VALID_S)


def open_queue(worker: ModalFunction, bound_s: float = BOUND_S, *, clears_stale: bool = False) -> ModalQueue:
    """Open the app's queue; an enqueue spawns invocations of `worker`, and takes `bound_s` at most."""
    layout = ModalSettings()
    calls = ModalCalls(bound_s=bound_s)
    queue = modal.Queue.from_name(layout.app_name, create_if_missing=True)
    invocations = InvocationSender(worker, calls, ceiling=layout.ceiling)
    return ModalQueue(queue, invocations, calls, FairScheduler(layout.lanes), clears_stale=clears_stale)


def open_job_repository(store: ObjectStore, notifier: ModalFunction) -> JobRepository:
    """Open the jobs; `notifier` is spawned when a webhook is due, so that it need not wait for the next minute."""
    return build_job_repository(store, announced=waker(notifier, "notifier"))


def waker(function: ModalFunction, name: str) -> Callable[[], None]:
    """Return what spawns a function, unless an input waits for it; where that fails, its next minute must do."""
    calls = ModalCalls()
    inputs = InvocationSender(function, calls, ceiling=1)

    def wake() -> None:
        try:
            inputs.spawn(1, calls.deadline())
        except QueueUnavailable as error:
            log(f"{name}.wake_failed", level=logging.WARNING, reason=str(error))

    return wake


def gateway(worker: ModalFunction, notifier: ModalFunction, scheduler: ModalFunction) -> FastAPI:
    layout = ModalSettings()
    store = open_bucket()
    return wiring.build_gateway_app(
        settings(),
        store,
        open_job_repository(store, notifier),
        open_queue(worker),
        engines=layout.engines,
        parallel_jobs=layout.max_containers,
        batches_changed=waker(scheduler, "scheduler"),
    )


def load_engines() -> Mapping[str, Engine]:
    """Load the engines of a worker, their weights on the GPU: the state that a memory snapshot holds."""
    from worker.engines.relief import Relief

    layout = ModalSettings()
    size_pools(layout.worker_cpu)
    engines: dict[str, Engine] = {"relief": Relief()}
    if layout.gpu:
        from worker.engines.trellis.engine import Trellis

        engines["trellis"] = Trellis.load(WEIGHTS)
    return engines


def start_worker(engines: Mapping[str, Engine], worker: ModalFunction, notifier: ModalFunction) -> WorkerContainer:
    """Build a container that is ready for its first invocation."""
    layout = ModalSettings()
    store = open_bucket()
    jobs, queue = open_job_repository(store, notifier), open_queue(worker)
    work = wiring.build_job_function(settings(), store, engines)
    tracers = attempt_tracers(open_tracer(settings()))
    container = os.environ.get("MODAL_TASK_ID", "container")
    # By the GPU that started, which may be the second choice; an operator's own figure goes first.
    usd_per_s = settings().usd_per_s or (usd_per_s_of(name_gpu()) if layout.gpu else 0.0)

    progress = wiring.build_progress_notifier(settings(), store)

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
            on_progress=progress.notify,
        )

    return WorkerContainer(build, work, queue, stop_fetching)


def notify() -> None:
    """Deliver the webhooks that are due, and those that become due meanwhile."""
    wiring.build_outbox_relay(settings(), build_job_repository(open_bucket())).run_until_idle(NOTIFY_S)


def reconcile(worker: ModalFunction, notifier: ModalFunction) -> None:
    jobs = open_job_repository(open_bucket(), notifier)
    queue = open_queue(worker, RECONCILE_BOUND_S, clears_stale=True)
    Reconciler(
        jobs,
        queue,
        requeue_after_s=settings().requeue_after_s,
        queue_ttl_s=settings().queue_ttl_s,
        collects_garbage=at_gc_minutes(jobs.now),
    ).reconcile()


def schedule(worker: ModalFunction, notifier: ModalFunction) -> None:
    """Dispatch and plan batches for `SCHEDULE_S`, or until nothing is left to plan."""
    layout = ModalSettings()
    jobs = open_job_repository(open_bucket(), notifier)
    queue = open_queue(worker, RECONCILE_BOUND_S)
    wiring.build_batch_scheduler(settings(), jobs, queue, layout.engines, prices_of(layout)).run_for(SCHEDULE_S)


def prices_of(layout: ModalSettings) -> Prices:
    """Price a worker of this layout, for estimates."""
    usd_per_s = settings().usd_per_s or (usd_per_s_of(layout.gpu[0]) if layout.gpu else 0.0)
    return Prices(usd_per_s, bool(layout.gpu), layout.max_containers)


def fetch_weights(commit: Callable[[], object]) -> int:
    """Fill the weights volume; return the bytes downloaded."""
    log_to_stderr()
    return weights.fetch(WEIGHTS, weights.open_hub(os.environ.get("HF_TOKEN")), commit)


def name_gpu() -> str:
    """Name the GPU of this container. Raises CalledProcessError where there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - a constant
