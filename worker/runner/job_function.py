"""What a worker calls to run one job: the function, its result, and the listeners of its progress."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from shared.domain.job import Artifact, Check, Job, SamplingResult, Stage
from worker.engine import Progress, ProgressListener

CONTENT_TYPES = {
    "state.safetensors": "application/octet-stream",
    "model.glb": "model/gltf-binary",
    "model.meshopt.glb": "model/gltf-binary",
    "model.usdz": "model/vnd.usdz+zip",
    "poster.webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of one attempt; its files are stored already.

    artifacts: by name (`model`, `meshopt`, `usdz`, `poster`, `state`). timings: seconds by stage. checks: the checks
    that the finished files passed. sampled: the parameters that were sampled in the end; None where the engine does
    not sample. out_of_memory: the GPU had too little memory for the parameters, and enough for lower ones.
    """

    artifacts: dict[str, Artifact]
    timings: dict[str, float]
    checks: tuple[Check, ...] = ()
    sampled: SamplingResult | None = None
    out_of_memory: bool = False


JobFunction = Callable[[Job, Progress], JobResult]
# Opens a listener for one attempt; the context ends with the attempt, also when it fails.
OpenListener = Callable[[Job], AbstractContextManager[ProgressListener]]


@dataclass(slots=True)
class StageTimer(ProgressListener):
    """Measure the seconds of each stage; what comes before the first report counts as `prepare`."""

    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = "prepare"
    _started_at: float = field(default_factory=time.monotonic)

    def on_stage(self, stage: Stage, fraction: float) -> None:  # noqa: ARG002 - part of the interface
        """Start to measure the stage if it is a new one."""
        if stage != self._stage:
            self.stop()
            self._stage = stage

    def stop(self) -> None:
        """Add the time up to now to the present stage."""
        now = time.monotonic()
        self.seconds[self._stage] = round(self.seconds.get(self._stage, 0.0) + now - self._started_at, 3)
        self._started_at = now
