"""The sparse decoders: latents on the tokens' cells become features of the finest voxels.

Cells are split into eight, level by level. A finer level's neighbours follow from those of the coarser one, so that
only the tokens are ever sorted. Convolutions gather each cell's 27 neighbours and multiply once: plain matrix products,
which need no tuning for new shapes. The texture decoder reuses the levels and splits of the shape decoder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.checkpoint import in_precision

BLOCK, UPSAMPLE = "SparseConvNeXtBlock3d", "SparseResBlockC2S3d"
GATHER_BYTES = 1 << 30  # of one convolution's gathered neighbours at a time
# Offset (x, y, z) has the number (x + 1) * 9 + (y + 1) * 3 + z + 1, as in the convolutions' weights.
OFFSETS = 27
CHUNK_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Level:
    """Cells at one resolution.

    coords: int32 [cells, 3]. neighbours: int32 [cells, 27], the cell at each offset, or the number of cells if there is
    none.
    """

    coords: Tensor
    neighbours: Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """The children of a level's cells. parent, octant: int64 [children]; octant x + 2 y + 4 z."""

    parent: Tensor
    octant: Tensor

    @classmethod
    def where(cls, filled: Tensor) -> "Split":
        """Split cells so that the octants in `filled`, bool [cells, 8], become cells."""
        parent, octant = filled.nonzero().unbind(1)
        return cls(parent, octant)

    def coords(self, level: Level) -> Tensor:
        """Return the children's coords, int32 [children, 3]."""
        octant = self.octant[:, None] >> torch.arange(3, device=self.octant.device) & 1
        return 2 * level.coords[self.parent] + octant.int()


def offset_number(x: int, y: int, z: int) -> int:
    """Return the number of an offset, each part -1, 0 or 1."""
    return (x + 1) * 9 + (y + 1) * 3 + z + 1


def base_level(coords: Tensor) -> Level:
    """Build the level of the tokens by sorting: coords int32 [cells, 3], no cell twice."""
    side = int(coords.max()) + 3
    keys = _keys(coords.long() + 1, side)
    ordered, order = keys.sort()
    offsets = torch.cartesian_prod(*[torch.arange(-1, 2, device=coords.device)] * 3)
    targets = keys[:, None] + _keys(offsets, side)
    index = torch.searchsorted(ordered, targets).clamp(max=len(keys) - 1)
    neighbours = torch.where(ordered[index] == targets, order[index], len(keys))
    return Level(coords, neighbours.int())


def child_level(level: Level, split: Split) -> Level:
    """Build the level of a level's children: each neighbour is a child of a neighbour of the parent."""
    device, cells, count = level.coords.device, len(level.coords), len(split.parent)
    child = torch.full((cells + 1, 8), count, dtype=torch.int32, device=device)
    child[split.parent, split.octant] = torch.arange(count, dtype=torch.int32, device=device)
    parent_offset, octants = (table.to(device) for table in _child_neighbours())
    neighbours = torch.empty(count, OFFSETS, dtype=torch.int32, device=device)
    for start in range(0, count, CHUNK_CELLS):
        part = slice(start, start + CHUNK_CELLS)
        octant = split.octant[part]
        parents = level.neighbours[split.parent[part]].gather(1, parent_offset[octant])
        neighbours[part] = child[parents.long(), octants[octant]]
    return Level(split.coords(level), neighbours)


def _child_neighbours() -> tuple[Tensor, Tensor]:
    """Tabulate for a child in octant o its neighbour at offset n: the offset of that one's parent, and its octant.

    int64 [8, 27] both.
    """
    octant = torch.arange(8)[:, None] >> torch.arange(3) & 1
    cell = octant[:, None] + torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
    parent, within = cell.div(2, rounding_mode="floor"), cell % 2
    return (parent + 1) @ torch.tensor([9, 3, 1]), within @ torch.tensor([1, 2, 4])


def _keys(coords: Tensor, side: int) -> Tensor:
    return (coords[..., 0] * side + coords[..., 1]) * side + coords[..., 2]


@dataclass(frozen=True, slots=True)
class DecoderLevels:
    """The levels of one object, from coarse to fine, and the splits between them."""

    levels: list[Level]
    splits: list[Split]

    @property
    def finest(self) -> Level:
        """The level of the decoded voxels."""
        return self.levels[-1]


@dataclass(frozen=True, slots=True)
class SparseDecoder:
    """A `FlexiDualGridVaeDecoder` or `SparseUnetVaeDecoder`. Its torso computes in the dtype of its blocks."""

    tensors: Mapping[str, Tensor]
    blocks: tuple[int, ...]  # at each level, before the split
    voxel_margin: float

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "SparseDecoder":
        """Build the decoder from the weights of a checkpoint.

        Raises:
            ValueError: the arguments describe another architecture than the published one.
        """
        if unsupported := {*args["block_type"], *args["up_block_type"]} - {BLOCK, UPSAMPLE}:
            raise ValueError(f"unsupported decoder blocks: {sorted(unsupported)}")
        tensors = in_precision(tensors, torch.float16 if args.get("use_fp16") else torch.float32)
        return cls(tensors, tuple(args["num_blocks"]), args.get("voxel_margin", 0.5))

    @property
    def dtype(self) -> torch.dtype:
        """The torso's dtype."""
        return self.tensors["blocks.0.0.conv.weight"].dtype

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.tensors["from_latent.weight"].shape[1])

    def decode(
        self, latents: Tensor, coords: Tensor, on_level: Callable[[float], None]
    ) -> tuple[Tensor, DecoderLevels]:
        """Decode latents, float32 [tokens, channels], and predict which voxels exist.

        Args:
            on_level: called before each level with the share of completed levels.

        Returns:
            float32 [voxels, out channels], and the levels.
        """
        levels = DecoderLevels([base_level(coords)], [])
        x = self._enter(latents)
        for i in range(len(self.blocks)):
            on_level(i / len(self.blocks))
            x = self._run_blocks(i, x, levels.levels[i])
            if i < len(self.blocks) - 1:
                levels.splits.append(self._split(i, x))
                levels.levels.append(child_level(levels.levels[i], levels.splits[i]))
                x = self._upsample(i, x, levels)
        return self._leave(x), levels

    def decode_on_levels(self, latents: Tensor, levels: DecoderLevels, on_level: Callable[[float], None]) -> Tensor:
        """Decode latents on the levels that another decoder predicted."""
        x = self._enter(latents)
        for i in range(len(self.blocks)):
            on_level(i / len(self.blocks))
            x = self._run_blocks(i, x, levels.levels[i])
            if i < len(self.blocks) - 1:
                x = self._upsample(i, x, levels)
        return self._leave(x)

    def finest_cells(self, latents: Tensor, coords: Tensor) -> Tensor:
        """Return the coords, int32 [voxels, 3], of the voxels that `decode` would predict, without decoding them."""
        levels = DecoderLevels([base_level(coords)], [])
        x = self._enter(latents)
        for i in range(len(self.blocks) - 1):
            x = self._run_blocks(i, x, levels.levels[i])
            levels.splits.append(self._split(i, x))
            if i == len(self.blocks) - 2:
                break
            levels.levels.append(child_level(levels.levels[i], levels.splits[i]))
            x = self._upsample(i, x, levels)
        return levels.splits[-1].coords(levels.levels[-1])

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

    def _upsample(self, i: int, x: Tensor, levels: DecoderLevels) -> Tensor:
        name = f"blocks.{i}.{self.blocks[i]}"
        split = levels.splits[i]
        h = functional.silu(self._norm(f"{name}.norm1", x))
        h = _to_children(self._convolve(f"{name}.conv1", h, levels.levels[i]), split)
        h = functional.silu(functional.layer_norm(h.float(), h.shape[-1:], eps=1e-6).to(h.dtype))
        h = self._convolve(f"{name}.conv2", h, levels.levels[i + 1])
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
    """Convolve x [cells, in] on existing cells only (submanifold convolution, arXiv:1711.10275).

    Args:
        neighbours: see Level. weight: [out, 3, 3, 3, in], along x, y and z.
    """
    kernel = weight.flatten(1).t()
    padded = functional.pad(x, (0, 0, 0, 1))  # the row of missing neighbours
    out = x.new_empty(len(x), len(weight))
    rows = max(1, GATHER_BYTES // (OFFSETS * x.shape[1] * x.element_size()))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        gathered = padded.index_select(0, neighbours[part].flatten()).view(-1, kernel.shape[0])
        torch.addmm(bias, gathered, kernel, out=out[part])
    return out


def _to_children(x: Tensor, split: Split) -> Tensor:
    """Give each child its octant's share of its parent's channels."""
    return x.unflatten(1, (8, -1)).flatten(0, 1)[split.parent * 8 + split.octant]
