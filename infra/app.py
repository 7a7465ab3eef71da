"""COMPOSITION ROOT on Modal: `modal deploy -m infra.app`. It declares where each function runs; what a function does
is in `infra.modal_app.functions`."""

from typing import Any

import modal
from fastapi import FastAPI

from infra.modal_app import functions
from infra.settings.modal import INVOCATIONS_PER_CONTAINER, ModalSettings, pool_variables
from infra.settings.service import Settings

SETTINGS = ModalSettings()
DEADLINE_S = int(Settings().deadline_s)
START_S = 900  # a worker reads 20 GB of weights and may compile kernels for the first time

app = modal.App(SETTINGS.app_name)
bucket = modal.Secret.from_name(SETTINGS.bucket_secret, required_keys=["TRELLIS2_BUCKET"])
hub = modal.Secret.from_name(SETTINGS.huggingface_secret, required_keys=["HF_TOKEN"])
weights = modal.Volume.from_name(SETTINGS.weights_volume, create_if_missing=True)
caches = modal.Volume.from_name(f"{SETTINGS.app_name}-caches", create_if_missing=True)
cpu, gpu = functions.cpu_image(), functions.gpu_image()
EACH_MINUTE: dict[str, Any] = {
    "image": cpu,
    "cpu": 0.25,
    "memory": 512,
    "secrets": [bucket],
    "env": {**SETTINGS.environment(), **pool_variables(0.25)},
    "schedule": modal.Cron("* * * * *"),  # keeps its times over deployments, a Period does not
    "max_containers": 1,  # two notifiers at once would send twice what is due
    "scaledown_window": 2,  # idle until the next minute would cost more than to start again
}


@app.function(
    image=cpu,
    cpu=SETTINGS.gateway_cpu,
    memory=1_024,
    secrets=[bucket],
    env={**SETTINGS.environment(), **pool_variables(SETTINGS.gateway_cpu)},
    min_containers=SETTINGS.gateway_min_containers,
    max_containers=SETTINGS.gateway_max_containers,
    scaledown_window=60,
    timeout=150,  # Modal's own limit for an answer
    region=SETTINGS.region,
)
@modal.concurrent(max_inputs=200, target_inputs=100)
@modal.asgi_app(requires_proxy_auth=SETTINGS.proxy_auth)
def gateway() -> FastAPI:
    """Serve the API and the page."""
    return functions.gateway(Worker().run, notifier, scheduler)


@app.cls(
    image=gpu if SETTINGS.gpu else cpu,
    gpu=list(SETTINGS.gpu) or None,
    cpu=SETTINGS.worker_cpu,
    memory=SETTINGS.worker_memory_mib,
    secrets=[bucket],
    env={**SETTINGS.environment(), **pool_variables(SETTINGS.worker_cpu), **functions.CACHE_VARIABLES},
    volumes={str(functions.WEIGHTS): weights.with_mount_options(read_only=True), str(functions.CACHES): caches},
    min_containers=SETTINGS.min_containers,
    max_containers=SETTINGS.max_containers,
    scaledown_window=SETTINGS.scaledown_window_s,
    timeout=(INVOCATIONS_PER_CONTAINER + 2) * DEADLINE_S
    + 120,  # waits for the GPU, three attempts in place, their ends
    startup_timeout=START_S,
    retries=0,  # the job record counts attempts; Modal itself runs crashed inputs again
    region=SETTINGS.region,
    enable_memory_snapshot=SETTINGS.gpu_snapshot,
    experimental_options={"enable_gpu_snapshot": True} if SETTINGS.gpu_snapshot else None,
)
@modal.concurrent(max_inputs=INVOCATIONS_PER_CONTAINER)
class Worker:
    """One container; each input runs one job."""

    @modal.enter(snap=SETTINGS.gpu_snapshot)
    def load(self) -> None:
        """Load the weights: the state that a snapshot holds."""
        self.engines = functions.load_engines()

    @modal.enter()
    def start(self) -> None:
        """Open the store and the queue."""
        self.container = functions.start_worker(self.engines, Worker().run, notifier)

    @modal.method()
    def run(self) -> None:
        """Dequeue and run one job."""
        self.container.run_once()

    @modal.exit()
    def shutdown(self) -> None:
        """Release the running jobs."""
        self.container.shutdown()


@app.function(**EACH_MINUTE, timeout=300)
def reconciler() -> None:
    """Restore every job to what its record says."""
    functions.reconcile(Worker().run, notifier)


@app.function(**EACH_MINUTE, timeout=300)
def scheduler() -> None:
    """Plan and dispatch batches; also spawned when a batch changes."""
    functions.schedule(Worker().run, notifier)


@app.function(**EACH_MINUTE, timeout=120)
def notifier() -> None:
    """Deliver webhooks; also spawned when one is due."""
    functions.notify()


@app.function(
    image=cpu,
    cpu=4.0,
    memory=4_096,
    secrets=[hub] if SETTINGS.gpu else [],  # without a GPU no weights are needed, and no token
    env=SETTINGS.environment(),
    volumes={str(functions.WEIGHTS): weights},
    timeout=4 * 3_600,
)
def fetch_weights() -> int:
    """Fill the volume: `modal run -m infra.app::fetch_weights`."""
    return functions.fetch_weights(weights.commit)
