"""What sampling ends with, and how it is kept in a State."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.errors import StateMissing
from worker.engine import State

ENGINE = "trellis"


@dataclass(frozen=True, slots=True)
class Latents:
    """The two decoders' input.

    coords: int32 [tokens, 3], cells of a grid of (resolution / 16)^3 in TRELLIS.2's axes, Z up. shape, texture:
    float32 [tokens, channels]. resolution: voxels along each side once decoded. seed: the one that it was made with.
    """

    coords: Tensor
    shape: Tensor
    texture: Tensor
    resolution: int
    seed: int
    pipeline_type: str

    def to_state(self) -> State:
        """Keep them, with nothing rounded."""
        arrays = {"coords": self.coords, "shape": self.shape, "texture": self.texture}
        notes = {"resolution": self.resolution, "seed": self.seed, "pipeline_type": self.pipeline_type}
        return State(
            ENGINE,
            {name: tensor.cpu().numpy() for name, tensor in arrays.items()},
            {name: str(value) for name, value in notes.items()},
        )

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Latents":
        """Take them up again.

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
