"""The dense decoder of the sparse structure."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.unit.worker.engines.trellis import tiny
from worker.engines.trellis.models.structure_decoder import StructureDecoder


def _plain_logits(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Restated: which part of a cell gets which channel is written out."""

    def conv(name: str, h: Tensor) -> Tensor:
        return functional.conv3d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    def norm(name: str, h: Tensor) -> Tensor:
        centred = h - h.mean(1, keepdim=True)
        h = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        return h * w[f"{name}.weight"][:, None, None, None] + w[f"{name}.bias"][:, None, None, None]

    def residual(name: str, h: Tensor) -> Tensor:
        inner = conv(f"{name}.conv1", functional.silu(norm(f"{name}.norm1", h)))
        return h + conv(f"{name}.conv2", functional.silu(norm(f"{name}.norm2", inner)))

    def double(name: str, h: Tensor) -> Tensor:
        h = conv(name, h)
        out = torch.zeros(1, h.shape[1] // 8, *(2 * side for side in h.shape[2:]), dtype=h.dtype)
        for a in range(2):
            for b in range(2):
                for c in range(2):
                    out[:, :, a::2, b::2, c::2] = h[:, 4 * a + 2 * b + c :: 8]
        return out

    x = residual("middle_block.0", conv("input_layer", x))
    x = double("blocks.1.conv", residual("blocks.0", x))
    x = double("blocks.3.conv", residual("blocks.2", x))
    x = residual("blocks.4", x)
    return conv("out_layer.2", functional.silu(norm("out_layer.0", x)))


def _latents() -> Tensor:
    return torch.randn(1, 8, 3, 3, 3, generator=torch.Generator().manual_seed(1))


def test_logits_equal_their_plain_restatement() -> None:
    """To 1e-5."""
    tensors = tiny.structure_tensors()
    logits = StructureDecoder.of(tiny.STRUCTURE_ARGS, tensors).logits(_latents())
    expected = _plain_logits({name: tensor.double() for name, tensor in tensors.items()}, _latents().double())
    assert (1, 1, 12, 12, 12) == logits.shape
    assert float((logits - expected).norm() / expected.norm()) < 1e-5


def test_cell_of_a_coarser_grid_is_occupied_where_any_within_it_is() -> None:
    """In lexicographic order, each once."""
    decoder = StructureDecoder.of(tiny.STRUCTURE_ARGS, tiny.structure_tensors())
    fine, coarse = decoder.occupied(_latents(), 12), decoder.occupied(_latents(), 6)
    assert 0 < len(fine) < 12**3
    assert sorted({tuple(cell // 2 for cell in cells) for cells in fine.tolist()}) == [
        tuple(c) for c in coarse.tolist()
    ]


def test_other_norms_are_refused() -> None:
    """Rather than decoded wrongly."""
    with pytest.raises(ValueError, match="group"):
        StructureDecoder.of(tiny.STRUCTURE_ARGS | {"norm_type": "group"}, tiny.structure_tensors())
