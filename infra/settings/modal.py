"""How the service is deployed on Modal, and the thread pools of its containers."""

import os
import random
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.domain.job import Lane

# Read by the numerical libraries when they are first imported.
POOL_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
# One samples on the GPU while the others decode, extract and upload: two of them, since that may take longer than a
# sampling, and the GPU would wait for it.
INVOCATIONS_PER_CONTAINER = 3
# Settings of the service that a deployment passes on to its containers. Secrets are Modal secrets instead.
PASSED_ON = (
    "PUBLIC_URL",
    "LOG_LEVEL",
    "REQUEUE_AFTER_S",
    "QUEUE_TTL_S",
    "DEADLINE_S",
    "BATCH_WINDOW",
    "USD_PER_S",
    "OTLP_ENDPOINT",
)
# modal.com/pricing, by the kind that is asked for. The name that such a GPU gives itself has the same words.
GPU_USD_PER_S = {"A100-80GB": 0.000694, "A100-40GB": 0.000583, "H100": 0.001097, "L40S": 0.000542}

Names = Annotated[tuple[str, ...], NoDecode]


class ModalSettings(BaseSettings):
    """What `modal deploy -m infra.app` reads from the environment; lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS2_", extra="ignore", frozen=True)

    app_name: str = Field("trellis2", description="Name of the Modal app, and of its queue.")
    gpu: Names = Field(("A100-80GB", "H100"), description="GPU kinds in order of preference; none for CPU workers.")
    max_containers: int = Field(8, ge=1, description="Workers at most: what the fleet can cost at most.")
    min_containers: int = Field(0, ge=0, description="Workers kept warm; each is paid for day and night.")
    scaledown_window_s: int = Field(120, ge=2, le=3_600, description="Seconds a worker may idle before it goes.")
    region: str | None = Field(None, description="Region; leave it unset, since it costs 1.5 to 1.75 times as much.")
    lanes: Annotated[tuple[Lane, ...], NoDecode] = Field(tuple(Lane), description="Lanes that the workers serve.")
    worker_cpu: float = Field(8.0, ge=1, description="CPU cores of a worker; extraction runs on them.")
    worker_memory_mib: int = Field(32_768, ge=4_096, description="Memory of a worker, MiB.")
    gateway_cpu: float = Field(1.0, ge=0.125, description="CPU cores of a gateway.")
    gateway_min_containers: int = Field(0, ge=0, description="Gateways kept warm; without one a first call waits.")
    gateway_max_containers: int = Field(4, ge=1, description="Gateways at most.")
    proxy_auth: bool = Field(False, description="Whether Modal asks for its own tokens before our API keys.")
    gpu_snapshot: bool = Field(False, description="Start workers from a snapshot of their GPU memory; unmeasured.")
    bucket_secret: str = Field("trellis2-bucket", description="Modal secret with TRELLIS2_BUCKET and TRELLIS2_S3_*.")
    huggingface_secret: str = Field("huggingface", description="Modal secret with HF_TOKEN; only for fetch_weights.")
    weights_volume: str = Field("trellis2-weights", description="Modal volume of the weights and the tuned kernels.")

    @field_validator("gpu", "lanes", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def ceiling(self) -> int:
        """How many invocations the fleet runs at once."""
        return self.max_containers * INVOCATIONS_PER_CONTAINER

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines of these workers; the first is the default."""
        return ("trellis", "relief") if self.gpu else ("relief",)

    def environment(self) -> dict[str, str | None]:
        """Return the environment of every container: it imports the app's module again, with these settings."""
        ours = {name: getattr(self, name) for name in type(self).model_fields}
        deployed = {name.upper(): _written(value) for name, value in ours.items() if value is not None}
        passed_on = {name: os.environ[f"TRELLIS2_{name}"] for name in PASSED_ON if f"TRELLIS2_{name}" in os.environ}
        return {f"TRELLIS2_{name}": value for name, value in {**deployed, "STORE": "s3", **passed_on}.items()}


def _written(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def usd_per_s_of(gpu: str) -> float:
    """Price of a GPU second, US dollars, by the GPU's own name (`NVIDIA H100 80GB HBM3`); 0 if unknown."""
    prices = (price for kind, price in GPU_USD_PER_S.items() if all(word in gpu for word in kind.split("-")))
    return next(prices, 0.0)


def pool_variables(cores: float) -> dict[str, str]:
    """Return the environment variables that size thread pools to the container's cores."""
    return dict.fromkeys(POOL_VARIABLES, str(max(1, int(cores))))


def size_pools(cores: float) -> None:
    """Narrow this process's CPU affinity to its quota, before a library counts its cores.

    xatlas and others take `hardware_concurrency` threads, which on Linux is the affinity's size: without this they
    start one for every core of the host and get in each other's way.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = list(os.sched_getaffinity(0))
        # Any of them: neighbours on the same host that all took the first ones would share those.
        os.sched_setaffinity(0, random.sample(allowed, min(len(allowed), max(1, int(cores)))))
