"""Decoders of real size with a known result: a bumpy striped sphere with as many cells as a real object.

Random weights decode to noise, which says nothing about the time that a mesh takes, or the file of a texture. So the
networks run, and what comes out is replaced.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.engines.trellis.models.sparse_decoder import (
    DecoderLevels,
    Level,
    SparseDecoder,
    Split,
    base_level,
    child_level,
)
from worker.engines.trellis.models.structure_decoder import StructureDecoder

RADIUS, BUMP = 0.42, 0.06
SPLITS = 4
STRIPES = 12  # across the grid, of each colour channel, along its own axis
CORNERS = torch.cartesian_prod(*[torch.arange(2)] * 3)
# The far end of the edge that leaves a cell along x, y and z, on the side of its neighbours.
EDGES = (((0, 1, 1), (1, 1, 1)), ((1, 0, 1), (1, 1, 1)), ((1, 1, 0), (1, 1, 1)))


def signed_distance(points: Tensor) -> Tensor:
    """Approximate the signed distance of points [..., 3] from the surface; the grid spans [-0.5, 0.5]."""
    radius = points.norm(dim=-1)
    bumps = (9 * points).sin().prod(dim=-1)
    return radius - RADIUS * (1 + BUMP * bumps)


def find_crossed_cells(cells: Tensor, side: int) -> Tensor:
    """Return the cells, int32 [cells, 3] of side^3, that the surface crosses."""
    inside = _corner_distances(cells, CORNERS.to(cells.device), side) < 0
    return inside.any(dim=1) & ~inside.all(dim=1)


def _corner_distances(cells: Tensor, corners: Tensor, side: int) -> Tensor:
    return signed_distance((cells[:, None] + corners).float() / side - 0.5)


@dataclass(frozen=True, slots=True)
class KnownStructure:
    """Runs the dense decoder, but returns the cells of the sphere."""

    decoder: StructureDecoder

    def occupied(self, latents: Tensor, side: int) -> Tensor:
        """See `StructureDecoder.occupied`."""
        self.decoder.logits(latents)
        cells = torch.cartesian_prod(*[torch.arange(side, device=latents.device)] * 3).int()
        return cells[find_crossed_cells(cells, side)]


@dataclass(frozen=True, slots=True)
class KnownShape:
    """Runs the sparse decoder along the sphere's cells, but returns the sphere."""

    decoder: SparseDecoder
    voxel_margin: float = 0.5

    def decode(
        self, latents: Tensor, coords: Tensor, on_level: Callable[[float], None]
    ) -> tuple[Tensor, DecoderLevels]:
        """See `SparseDecoder.decode`."""
        side = 32 if int(coords.max()) < 32 else 64
        levels = DecoderLevels([base_level(coords)], [])
        for i in range(SPLITS):
            split, level = self._split(levels.levels[i], side << (i + 1))
            levels.splits.append(split)
            levels.levels.append(level)
        self.decoder.decode_on_levels(latents, levels, on_level)
        return self._features(levels.finest.coords, side << SPLITS), levels

    def finest_cells(self, latents: Tensor, coords: Tensor) -> Tensor:
        """See `Decoder.finest_cells`."""
        self.decoder.finest_cells(latents, coords)
        cells = coords
        for i in range(SPLITS):
            cells = (2 * cells[:, None] + CORNERS.to(cells.device)).flatten(0, 1).int()
            cells = cells[find_crossed_cells(cells, 32 << (i + 1))]
        return cells

    def _split(self, level: Level, side: int) -> tuple[Split, Level]:
        every = Split.where(torch.ones(len(level.coords), 8, dtype=torch.bool, device=level.coords.device))
        split = Split.where(find_crossed_cells(every.coords(level), side).view(-1, 8))
        return split, child_level(level, split)

    def _features(self, cells: Tensor, side: int) -> Tensor:
        features = torch.zeros(len(cells), 7, device=cells.device)
        centres = (cells.float() + 0.5) / side - 0.5
        onto = centres - signed_distance(centres)[:, None] * torch.nn.functional.normalize(centres, dim=1)
        place = ((onto + 0.5) * side - cells).clamp(0.01, 0.99)
        features[:, :3] = torch.logit((place + self.voxel_margin) / (1 + 2 * self.voxel_margin))
        for axis, ends in enumerate(EDGES):
            near, far = _corner_distances(cells, torch.tensor(ends, device=cells.device), side).unbind(1)
            features[:, 3 + axis] = torch.where((near < 0) == (far < 0), -1.0, 1.0)
        return features


@dataclass(frozen=True, slots=True)
class KnownTexture:
    """Runs the sparse decoder along the cells, but returns stripes on an opaque, rather rough dielectric."""

    decoder: SparseDecoder

    def decode_on_levels(self, latents: Tensor, levels: DecoderLevels, on_level: Callable[[float], None]) -> Tensor:
        """See `Decoder.decode_along`; base colour, metallic, roughness and alpha in [-1, 1]."""
        self.decoder.decode_on_levels(latents, levels, on_level)
        cells = levels.finest.coords.float()
        colour = torch.sin(cells * (2 * torch.pi * STRIPES / (int(cells.max()) + 1)))
        rest = torch.tensor([-1.0, 0.2, 1.0], device=cells.device).expand(len(cells), 3)
        return torch.cat((colour, rest), dim=1)
