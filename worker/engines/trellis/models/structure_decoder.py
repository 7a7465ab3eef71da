"""The dense 3D convolutional decoder of the sparse structure: from the first stage's latents to an occupancy grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.checkpoint import in_precision

EPS = 1e-5  # of the layer norms over channels


@dataclass(frozen=True, slots=True)
class StructureDecoder:
    """A `SparseStructureDecoder`. Its torso computes in the dtype of its blocks."""

    tensors: Mapping[str, Tensor]
    middle: int  # number of residual blocks before the first level
    doubles: tuple[bool, ...]  # for each block after them, whether it doubles the resolution

    @classmethod
    def of(cls, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "StructureDecoder":
        """Build the decoder from the weights of a checkpoint.

        Raises:
            ValueError: the arguments describe another architecture than the published one.
        """
        if args.get("norm_type", "layer") != "layer":
            raise ValueError(f"unsupported norm type of a structure decoder: {args['norm_type']}")
        doubles: list[bool] = []
        for level in range(len(args["channels"])):
            doubles += [False] * args["num_res_blocks"]
            doubles += [True] * (level < len(args["channels"]) - 1)
        tensors = in_precision(tensors, torch.float16 if args.get("use_fp16") else torch.float32)
        return cls(tensors, args.get("num_res_blocks_middle", 2), tuple(doubles))

    def occupied(self, latents: Tensor, side: int) -> Tensor:
        """Return the occupied cells of a grid of side^3, int32 [cells, 3] in lexicographic order.

        A cell of a coarser grid is occupied if any cell within it is.

        Args:
            latents: float32 [1, channels, 16, 16, 16].
        """
        filled = self.logits(latents) > 0
        if (ratio := filled.shape[2] // side) > 1:
            filled = functional.max_pool3d(filled.float(), ratio) > 0.5
        return torch.argwhere(filled[0, 0]).int()

    def logits(self, latents: Tensor) -> Tensor:
        """Return each cell's occupancy logit: float32 [1, 1, side, side, side]."""
        x = self._convolve("input_layer", latents).to(self.tensors["middle_block.0.conv1.weight"].dtype)
        for i in range(self.middle):
            x = self._residual(f"middle_block.{i}", x)
        for i, is_doubling in enumerate(self.doubles):
            x = self._double(f"blocks.{i}.conv", x) if is_doubling else self._residual(f"blocks.{i}", x)
        return self._convolve("out_layer.2", functional.silu(self._norm("out_layer.0", x.to(latents.dtype))))

    def _residual(self, name: str, x: Tensor) -> Tensor:
        h = self._convolve(f"{name}.conv1", functional.silu(self._norm(f"{name}.norm1", x)))
        h = self._convolve(f"{name}.conv2", functional.silu(self._norm(f"{name}.norm2", h)))
        return h + x

    def _double(self, name: str, x: Tensor) -> Tensor:
        """Distribute each cell's channels to its eight parts (pixel shuffle in 3D)."""
        x = self._convolve(name, x)
        x = x.unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        return functional.conv3d(x, weight, self.tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"].float(), self.tensors[f"{name}.bias"].float()
        last = functional.layer_norm(x.float().movedim(1, -1), weight.shape, weight, bias, EPS)
        return last.movedim(-1, 1).to(x.dtype)
