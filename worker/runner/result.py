"""What the work on a job comes to."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.job import Artifact, Check, Job, SamplingResult
from worker.engine import Progress

CONTENT_TYPES = {
    "state.safetensors": "application/octet-stream",
    "model.glb": "model/gltf-binary",
    "model.meshopt.glb": "model/gltf-binary",
    "model.usdz": "model/vnd.usdz+zip",
    "poster.webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class JobResult:
    """Artifacts by name (`model`, `meshopt`, `usdz`, ...), all stored, and the seconds that each stage took.

    checks: what the finished files were held to. sampled: what became of the wishes, where an engine samples.
    ran_out: whether the GPU's memory did not suffice for what was asked, and did for less.
    """

    artifacts: dict[str, Artifact]
    timings: dict[str, float]
    checks: tuple[Check, ...] = ()
    sampled: SamplingResult | None = None
    out_of_memory: bool = False


JobFunction = Callable[[Job, Progress], JobResult]
