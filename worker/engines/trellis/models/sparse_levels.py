"""Sparse voxels at a ladder of resolutions: who is whose neighbour, and whose child.

The decoders start from the tokens' cells and split cells into eight, level by level. Neighbours at a finer level follow
from those at the coarser one, so that nothing is ever hashed or sorted but the tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Offset (x, y, z) number (x + 1) * 9 + (y + 1) * 3 + z + 1; as the weights of the convolutions have them.
OFFSETS = 27
CHUNK_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Level:
    """Cells at one resolution.

    coords: int32 [cells, 3]. neighbours: int32 [cells, 27], the cell at each offset; where there is none, the number
    of cells.
    """

    coords: Tensor
    neighbours: Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """How the cells of a level were split. parent, octant: int64 [children]; octant x + 2 y + 4 z."""

    parent: Tensor
    octant: Tensor

    @classmethod
    def where(cls, filled: Tensor) -> "Split":
        """Split cells so that the octants in `filled`, bool [cells, 8], become cells of their own."""
        parent, octant = filled.nonzero().unbind(1)
        return cls(parent, octant)

    def coords(self, level: Level) -> Tensor:
        """The children's coords, int32 [children, 3]."""
        octant = self.octant[:, None] >> torch.arange(3, device=self.octant.device) & 1
        return 2 * level.coords[self.parent] + octant.int()


def offset_number(x: int, y: int, z: int) -> int:
    """The number of an offset, each part -1, 0 or 1."""
    return (x + 1) * 9 + (y + 1) * 3 + z + 1


def base_level(coords: Tensor) -> Level:
    """The level of the tokens: coords int32 [cells, 3], no cell twice."""
    side = int(coords.max()) + 3
    keys = _keys(coords.long() + 1, side)
    ordered, order = keys.sort()
    around = torch.cartesian_prod(*[torch.arange(-1, 2, device=coords.device)] * 3)
    wanted = keys[:, None] + _keys(around, side)
    place = torch.searchsorted(ordered, wanted).clamp(max=len(keys) - 1)
    neighbours = torch.where(ordered[place] == wanted, order[place], len(keys))
    return Level(coords, neighbours.int())


def child_level(level: Level, split: Split) -> Level:
    """The level of a level's children."""
    device, cells, count = level.coords.device, len(level.coords), len(split.parent)
    child = torch.full((cells + 1, 8), count, dtype=torch.int32, device=device)
    child[split.parent, split.octant] = torch.arange(count, dtype=torch.int32, device=device)
    via, octants = (table.to(device) for table in _family())
    neighbours = torch.empty(count, OFFSETS, dtype=torch.int32, device=device)
    for start in range(0, count, CHUNK_CELLS):
        part = slice(start, start + CHUNK_CELLS)
        octant = split.octant[part]
        uncles = level.neighbours[split.parent[part]].gather(1, via[octant])
        neighbours[part] = child[uncles.long(), octants[octant]]
    return Level(split.coords(level), neighbours)


def _family() -> tuple[Tensor, Tensor]:
    """For a child in octant o, its neighbour at offset n lies in its parent's neighbour [o, n], there in octant [o, n].

    int64 [8, 27] both.
    """
    octant = torch.arange(8)[:, None] >> torch.arange(3) & 1
    place = octant[:, None] + torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
    parent, within = place.div(2, rounding_mode="floor"), place % 2
    return (parent + 1) @ torch.tensor([9, 3, 1]), within @ torch.tensor([1, 2, 4])


def _keys(coords: Tensor, side: int) -> Tensor:
    return (coords[..., 0] * side + coords[..., 1]) * side + coords[..., 2]
