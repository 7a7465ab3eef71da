"""What the work on a job comes to."""

from dataclasses import dataclass

from shared.job import Artifact

CONTENT_TYPES = {
    "state.safetensors": "application/octet-stream",
    "model.glb": "model/gltf-binary",
    "poster.webp": "image/webp",
}


@dataclass(frozen=True, slots=True)
class Made:
    """Artifacts by name (`model`, `poster`, `state`), all stored, and the seconds that each stage took."""

    artifacts: dict[str, Artifact]
    timings: dict[str, float]
