"""The engine port: an engine samples a State from an image, and decodes a State to a Surface."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared.domain.job import SamplingResult, Stage
from shared.domain.parameters import Parameters, PipelineType
from shared.errors import StateMissing

# The pipeline type that a job falls back to when the GPU is out of memory and its caller allows a lower one.
LOWER_PIPELINE_TYPE: Mapping[PipelineType, PipelineType] = {
    "1536_cascade": "1024_cascade",
    "1024_cascade": "512",
    "1024": "512",
}


@dataclass(frozen=True, slots=True)
class InputImage:
    """A decoded image, upright, with straight (not premultiplied) alpha.

    rgba: uint8 [height, width, 4], sRGB. has_alpha: whether the file has an alpha channel that is not all opaque.
    """

    rgba: NDArray[np.uint8]
    has_alpha: bool


@dataclass(frozen=True, slots=True)
class State:
    """The result of sampling, from which the surface can be decoded any number of times.

    arrays: named arrays of any shape and numeric dtype. notes: strings (seed, resolution, ...).
    """

    engine: str
    arrays: Mapping[str, NDArray[Any]]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def sampling_result(self) -> SamplingResult | None:
        """What sampling used (seed, resolution, pipeline type), from the notes; None if the engine does not sample."""
        noted = {name: self.notes[name] for name in SamplingResult.model_fields if name in self.notes}
        return SamplingResult.model_validate(noted) if len(noted) == len(SamplingResult.model_fields) else None

    def to_bytes(self) -> bytes:
        """Serialize as a safetensors file; equal states give equal bytes."""
        arrays = {name: np.ascontiguousarray(self.arrays[name]) for name in sorted(self.arrays)}
        # One metadata key only: the library writes metadata in a hash map's order, which would change the bytes.
        notes = json.dumps({"engine": self.engine, **self.notes}, sort_keys=True)
        return save(arrays, metadata={"trellis2": notes})

    @classmethod
    def from_bytes(cls, body: bytes) -> "State":
        """Read what `to_bytes` wrote.

        Raises:
            StateMissing: the bytes are not such a file.
        """
        try:
            header_bytes = int.from_bytes(body[:8], "little")
            notes = json.loads(json.loads(body[8 : 8 + header_bytes])["__metadata__"]["trellis2"])
            return cls(engine=notes.pop("engine"), arrays=load(body), notes=notes)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StateMissing("the stored state cannot be read; generate the asset again") from error


@dataclass(frozen=True, slots=True)
class Surface:
    """A triangle surface with its material on a sparse voxel grid: the input of extraction.

    Object space: right-handed, Y up, the object's front faces +Z, the grid spans [-0.5, 0.5] on each axis (one
    unit is one metre until the caller says otherwise). The surface may be open, non-manifold and self-touching.

    vertices: float32 [vertices, 3]. faces: int32 [faces, 3], counter-clockwise seen from outside.
    coords: int32 [voxels, 3], cell (i, j, k) along x, y, z, each in [0, resolution), no cell twice. A cell's centre
    is at (cell + 0.5) / resolution - 0.5.
    attributes: float32 [voxels, 6] in [0, 1]: base colour red, green, blue (sRGB-encoded), metallic, roughness, alpha.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    coords: NDArray[np.int32]
    attributes: NDArray[np.float32]
    resolution: int


class ProgressListener:
    """Follow the progress of one job. Subclasses override what they need; both methods must return at once."""

    def on_stage(self, stage: Stage, fraction: float) -> None:
        """React to a report that `fraction` (0 to 1) of `stage` is done.

        Raises:
            JobStopped: the job was canceled or taken over; the caller must let it pass through.
        """

    def on_preview(self, image: NDArray[np.uint8]) -> None:
        """React to a preview of what the job makes: uint8 [height, width, 3 or 4], sRGB, straight alpha."""


class Progress:
    """Report the progress of one job to its listeners, in their order. Without listeners reports go nowhere.

    Engines call it at every step: a listener that raises JobStopped is how a cancel reaches the work.
    """

    def __init__(self, *listeners: ProgressListener) -> None:
        self._listeners = listeners

    def __call__(self, stage: Stage, fraction: float) -> None:
        """Report that `fraction` (0 to 1) of `stage` is done. Raises what a listener raises (JobStopped)."""
        for listener in self._listeners:
            listener.on_stage(stage, fraction)

    def show_preview(self, image: NDArray[np.uint8]) -> None:
        """Send a preview: uint8 [height, width, 3 or 4], sRGB, straight alpha."""
        for listener in self._listeners:
            listener.on_preview(image)

    def with_first(self, listener: ProgressListener) -> "Progress":
        """Return a progress that calls `listener` before the present ones."""
        return Progress(listener, *self._listeners)


class Engine(Protocol):
    """An adapter of one way to generate 3D objects."""

    name: str

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Run the sampler; the same image, parameters and seed give the same state.

        Raises:
            NoObjectFound: nothing in the image stands out from its background.
            EngineFailed: sampling failed.
        """

    def decode(self, state: State, progress: Progress) -> Surface:
        """Decode a state.

        Raises:
            StateMissing: the state is not one of this engine's.
        """
