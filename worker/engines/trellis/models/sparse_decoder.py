"""The sparse decoders: latents on the tokens' cells become features of the finest voxels.

Convolutions gather each cell's 27 neighbours and multiply once: plain matrix products, with nothing to tune for new
shapes. Levels and splits that the shape decoder finds serve the texture decoder too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.checkpoint import in_precision
from worker.engines.trellis.models.sparse_levels import OFFSETS, Level, Split, base_level, child_level

BLOCK, UPSAMPLE = "SparseConvNeXtBlock3d", "SparseResBlockC2S3d"
GATHER_BYTES = 1 << 30  # of one convolution's gathered neighbours at a time


@dataclass(frozen=True, slots=True)
class DecoderLevels:
    """The levels of one object, coarse to fine, and the splits between them."""

    levels: list[Level]
    splits: list[Split]

    @property
    def finest(self) -> Level:
        """Where the decoded voxels are."""
        return self.levels[-1]


@dataclass(frozen=True, slots=True)
class SparseDecoder:
    """A `FlexiDualGridVaeDecoder` or `SparseUnetVaeDecoder`. Its torso computes in the dtype of its blocks."""

    tensors: Mapping[str, Tensor]
    blocks: tuple[int, ...]  # at each level, before the split
    voxel_margin: float

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "SparseDecoder":
        """Take over the weights of a checkpoint.

        Raises:
            ValueError: the arguments ask for another architecture than the published one.
        """
        if unlike := {*args["block_type"], *args["up_block_type"]} - {BLOCK, UPSAMPLE}:
            raise ValueError(f"no decoder with such blocks is known here: {sorted(unlike)}")
        tensors = in_precision(tensors, torch.float16 if args.get("use_fp16") else torch.float32)
        return cls(tensors, tuple(args["num_blocks"]), args.get("voxel_margin", 0.5))

    @property
    def dtype(self) -> torch.dtype:
        """What the torso computes in."""
        return self.tensors["blocks.0.0.conv.weight"].dtype

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that it decodes."""
        return int(self.tensors["from_latent.weight"].shape[1])

    def decode(
        self, latents: Tensor, coords: Tensor, on_level: Callable[[float], None]
    ) -> tuple[Tensor, DecoderLevels]:
        """Decode latents, float32 [tokens, channels], and find out which voxels there are.

        on_level: called before each level with the share of levels done. Returns float32 [voxels, out channels].
        """
        ladder = DecoderLevels([base_level(coords)], [])
        x = self._enter(latents)
        for i in range(len(self.blocks)):
            on_level(i / len(self.blocks))
            x = self._run_blocks(i, x, ladder.levels[i])
            if i < len(self.blocks) - 1:
                ladder.splits.append(self._split(i, x))
                ladder.levels.append(child_level(ladder.levels[i], ladder.splits[i]))
                x = self._upsample(i, x, ladder)
        return self._leave(x), ladder

    def decode_on_levels(self, latents: Tensor, ladder: DecoderLevels, on_level: Callable[[float], None]) -> Tensor:
        """Decode latents on the voxels that another decoder found."""
        x = self._enter(latents)
        for i in range(len(self.blocks)):
            on_level(i / len(self.blocks))
            x = self._run_blocks(i, x, ladder.levels[i])
            if i < len(self.blocks) - 1:
                x = self._upsample(i, x, ladder)
        return self._leave(x)

    def finest_cells(self, latents: Tensor, coords: Tensor) -> Tensor:
        """The coords, int32 [voxels, 3], of the voxels that `decode` would find, without decoding them."""
        ladder = DecoderLevels([base_level(coords)], [])
        x = self._enter(latents)
        for i in range(len(self.blocks) - 1):
            x = self._run_blocks(i, x, ladder.levels[i])
            ladder.splits.append(self._split(i, x))
            if i == len(self.blocks) - 2:
                break
            ladder.levels.append(child_level(ladder.levels[i], ladder.splits[i]))
            x = self._upsample(i, x, ladder)
        return ladder.splits[-1].coords(ladder.levels[-1])

    def _enter(self, latents: Tensor) -> Tensor:
        return self._linear("from_latent", latents).to(self.dtype)

    def _leave(self, x: Tensor) -> Tensor:
        x = x.float()
        return self._linear("output_layer", functional.layer_norm(x, x.shape[-1:]))

    def _run_blocks(self, i: int, x: Tensor, level: Level) -> Tensor:
        for j in range(self.blocks[i]):
            name = f"blocks.{i}.{j}"
            h = self._norm(f"{name}.norm", self._convolve(f"{name}.conv", x, level))
            h = functional.silu(self._linear(f"{name}.mlp.0", h))
            x = self._linear(f"{name}.mlp.2", h) + x
        return x

    def _split(self, i: int, x: Tensor) -> Split:
        return Split.where(self._linear(f"blocks.{i}.{self.blocks[i]}.to_subdiv", x) > 0)

    def _upsample(self, i: int, x: Tensor, ladder: DecoderLevels) -> Tensor:
        name = f"blocks.{i}.{self.blocks[i]}"
        split = ladder.splits[i]
        h = functional.silu(self._norm(f"{name}.norm1", x))
        h = _to_children(self._convolve(f"{name}.conv1", h, ladder.levels[i]), split)
        h = functional.silu(functional.layer_norm(h.float(), h.shape[-1:], eps=1e-6).to(h.dtype))
        h = self._convolve(f"{name}.conv2", h, ladder.levels[i + 1])
        passed = _to_children(x, split)
        return h + passed.repeat_interleave(h.shape[1] // passed.shape[1], dim=1)

    def _convolve(self, name: str, x: Tensor, level: Level) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return convolve(x, level.neighbours, weight, bias)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"].float(), self.tensors[f"{name}.bias"].float()
        return functional.layer_norm(x.float(), x.shape[-1:], weight, bias, 1e-6).to(x.dtype)


def convolve(x: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Submanifold convolution of x [cells, in], weight [out, 3, 3, 3, in] (along x, y, z), neighbours as in a Level."""
    kernel = weight.flatten(1).t()
    padded = functional.pad(x, (0, 0, 0, 1))  # the row of a neighbour that is not there
    out = x.new_empty(len(x), len(weight))
    rows = max(1, GATHER_BYTES // (OFFSETS * x.shape[1] * x.element_size()))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        gathered = padded.index_select(0, neighbours[part].flatten()).view(-1, kernel.shape[0])
        torch.addmm(bias, gathered, kernel, out=out[part])
    return out


def _to_children(x: Tensor, split: Split) -> Tensor:
    """Each child takes its octant's share of its parent's channels."""
    return x.unflatten(1, (8, -1)).flatten(0, 1)[split.parent * 8 + split.octant]
