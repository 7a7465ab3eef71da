"""The result of sampling: latents, their scale, their storage in a State, and checks of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import OutputInvalid, StateMissing
from worker.engine import State

ENGINE = "trellis"
MIN_CELLS = 8


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of a stage's latents: float32 [1, channels] both."""

    mean: Tensor
    deviation: Tensor

    def restore(self, latents: Tensor) -> Tensor:
        """Convert from the sampler's scale to the decoder's."""
        return latents * self.deviation + self.mean

    def apply(self, latents: Tensor) -> Tensor:
        """Convert from the decoder's scale to the sampler's."""
        return (latents - self.mean) / self.deviation


@dataclass(frozen=True, slots=True)
class Latents:
    """The input of the two decoders.

    coords: int32 [tokens, 3], cells of a grid of (resolution / 16)^3 in TRELLIS.2's axes, Z up. shape, texture:
    float32 [tokens, channels]. resolution: voxels along each side once decoded. seed: the one that was used.
    """

    coords: Tensor
    shape: Tensor
    texture: Tensor
    resolution: int
    seed: int
    pipeline_type: str

    def to_state(self) -> State:
        """Store the latents, without rounding."""
        arrays = {"coords": self.coords, "shape": self.shape, "texture": self.texture}
        notes = {"resolution": self.resolution, "seed": self.seed, "pipeline_type": self.pipeline_type}
        return State(
            ENGINE,
            {name: tensor.cpu().numpy() for name, tensor in arrays.items()},
            {name: str(value) for name, value in notes.items()},
        )

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Latents":
        """Read what `to_state` stored.

        Raises:
            StateMissing: the state is not one of this engine's.
        """
        if state.engine != ENGINE:
            raise StateMissing(f"the state was made by the engine {state.engine}, not by {ENGINE}")
        try:
            coords, shape, texture = (
                torch.tensor(state.arrays[name]).to(device) for name in ("coords", "shape", "texture")
            )
            resolution, seed = int(state.notes["resolution"]), int(state.notes["seed"])
            return cls(coords.int(), shape.float(), texture.float(), resolution, seed, state.notes["pipeline_type"])
        except (KeyError, ValueError) as error:
            raise StateMissing("the stored state is not one of TRELLIS.2's; generate the asset again") from error


def is_solid(coords: Tensor) -> bool:
    """Return whether cells, int32 [cells, 3], are enough for an object, and not all in one plane."""
    if len(coords) < MIN_CELLS:
        return False
    return bool((coords.amax(dim=0) > coords.amin(dim=0)).all())


def check_finite(latents: Tensor, stage: str) -> None:
    """Check that all numbers are finite.

    Raises:
        OutputInvalid: some are not finite.
    """
    if not bool(latents.isfinite().all()):
        raise OutputInvalid(f"sampling the {stage} ended in numbers that are not finite")
