"""The sparse decoders."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.unit.worker.engines.trellis import plain_convolution, tiny
from worker.engines.trellis.models import sparse_decoder
from worker.engines.trellis.models.sparse_decoder import Level, SparseDecoder, Split, base_level, child_level, convolve

TOKENS = 30


def _given(seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, 4, (TOKENS, 3), generator=generator, dtype=torch.int32).unique(dim=0)
    return torch.randn(len(coords), 8, generator=generator), coords


def _ignore(_: float) -> None:
    return


def test_convolution_equals_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many parts as its memory bound asks for."""
    _, coords = _given()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(len(coords), 5, generator=generator)
    weight, bias = torch.randn(6, 3, 3, 3, 5, generator=generator), torch.randn(6, generator=generator)
    monkeypatch.setattr(sparse_decoder, "GATHER_BYTES", 7 * 27 * 5 * 4)
    actual = convolve(x, base_level(coords).neighbours, weight, bias)
    torch.testing.assert_close(actual, plain_convolution.convolve(x, coords, weight, bias), rtol=1e-4, atol=1e-4)


def _plain_decode(w: dict[str, Tensor], x: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    """The shape decoder restated: loops over children, dense convolutions, float64."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(h: Tensor, name: str = "", eps: float = 1e-6) -> Tensor:
        centred = h - h.mean(1, keepdim=True)
        h = centred / (centred.pow(2).mean(1, keepdim=True) + eps).sqrt()
        return h * w[f"{name}.weight"] + w[f"{name}.bias"] if name else h

    def conv(name: str, h: Tensor, at: Tensor) -> Tensor:
        return plain_convolution.convolve(h, at, w[f"{name}.weight"], w[f"{name}.bias"])

    x = linear("from_latent", x)
    for i in range(4):
        h = norm(conv(f"blocks.{i}.0.conv", x, coords), f"blocks.{i}.0.norm")
        x = linear(f"blocks.{i}.0.mlp.2", functional.silu(linear(f"blocks.{i}.0.mlp.0", h))) + x
        name = f"blocks.{i}.1"
        filled = linear(f"{name}.to_subdiv", x) > 0
        h = conv(f"{name}.conv1", functional.silu(norm(x, f"{name}.norm1")), coords)
        family = [(n, o) for n in range(len(coords)) for o in range(8) if filled[n, o]]
        octants = torch.tensor([[o & 1, o >> 1 & 1, o >> 2] for o in range(8)], dtype=torch.int32)
        coords = torch.stack([2 * coords[n] + octants[o] for n, o in family])
        h = torch.stack([h[n].reshape(8, -1)[o] for n, o in family])
        passed = torch.stack([x[n].reshape(8, -1)[o] for n, o in family])
        passed = passed.repeat_interleave(h.shape[1] // passed.shape[1], dim=1)
        x = conv(f"{name}.conv2", functional.silu(norm(h)), coords) + passed
    return linear("output_layer", norm(x, eps=1e-5)), coords


def test_shape_decoder_equals_its_plain_restatement() -> None:
    """The same voxels in the same order, the same features."""
    latents, coords = _given()
    tensors = tiny.decoder_tensors(7, splits=True)
    features, levels = SparseDecoder.of(tiny.DECODER_ARGS, tensors).decode(latents[:6], coords[:6], _ignore)
    doubled = {name: tensor.double() for name, tensor in tensors.items()}
    expected, voxels = _plain_decode(doubled, latents[:6].double(), coords[:6])
    assert torch.equal(voxels, levels.finest.coords)
    assert float((features - expected).norm() / expected.norm()) < 1e-5


def test_texture_is_decoded_on_the_shapes_voxels() -> None:
    """With a decoder's own splits, decoding along them is decoding."""
    latents, coords = _given()
    decoder = SparseDecoder.of(tiny.DECODER_ARGS, tiny.decoder_tensors(6, splits=True))
    features, levels = decoder.decode(latents, coords, _ignore)
    torch.testing.assert_close(decoder.decode_on_levels(latents, levels, _ignore), features)


def test_finest_cells_are_those_that_decoding_finds() -> None:
    """A cascade needs only the cells, and skips the most expensive layers."""
    latents, coords = _given()
    decoder = SparseDecoder.of(tiny.DECODER_ARGS, tiny.decoder_tensors(7, splits=True))
    _, levels = decoder.decode(latents, coords, _ignore)
    assert torch.equal(levels.finest.coords, decoder.finest_cells(latents, coords))


@pytest.mark.parametrize("level", range(4))
def test_decoder_may_leave_nothing(level: int) -> None:
    """At any level: no voxels, no features, no error."""
    latents, coords = _given()
    tensors = tiny.decoder_tensors(7, splits=True)
    tensors[f"blocks.{level}.1.to_subdiv.bias"] = torch.full((8,), -99.0)
    decoder = SparseDecoder.of(tiny.DECODER_ARGS, tensors)
    features, levels = decoder.decode(latents, coords, _ignore)
    assert ((0, 7), 0) == (features.shape, len(levels.finest.coords))
    assert (0, 3) == decoder.finest_cells(latents, coords).shape


def test_levels_are_told() -> None:
    """A cancel arrives between levels, not after minutes."""
    latents, coords = _given()
    reports: list[float] = []
    SparseDecoder.of(tiny.DECODER_ARGS, tiny.decoder_tensors(7, splits=True)).decode(latents, coords, reports.append)
    assert [0.0, 0.2, 0.4, 0.6, 0.8] == reports


def test_unknown_blocks_are_refused() -> None:
    """Rather than decoded wrongly."""
    args = tiny.DECODER_ARGS | {"up_block_type": ["SparseResBlockUpsample3d"] * 4}
    with pytest.raises(ValueError, match="SparseResBlockUpsample3d"):
        SparseDecoder.of(args, tiny.decoder_tensors(7, splits=True))


Cells = st.sets(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=40)


def _plain_neighbours(coords: Tensor) -> Tensor:
    """Compare every pair of cells."""
    places = {tuple(cell): number for number, cell in enumerate(coords.tolist())}
    offsets = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    return torch.tensor(
        [[places.get((i + x, j + y, k + z), len(places)) for x, y, z in offsets] for i, j, k in coords.tolist()],
        dtype=torch.int32,
    )


def _level(cells: set[tuple[int, int, int]]) -> Level:
    return base_level(torch.tensor(list(cells), dtype=torch.int32))


@given(Cells)
@settings(max_examples=40)
def test_base_level_has_all_neighbours(cells: set[tuple[int, int, int]]) -> None:
    """At all 27 offsets; the number of cells where there is none."""
    level = _level(cells)
    assert torch.equal(_plain_neighbours(level.coords), level.neighbours)


@given(Cells, st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_child_level_has_all_neighbours(cells: set[tuple[int, int, int]], seed: int) -> None:
    """Also across the borders of the parents."""
    level = _level(cells)
    filled = torch.rand(len(cells), 8, generator=torch.Generator().manual_seed(seed)) < 0.5
    filled[0, 0] = True
    finer = child_level(level, Split.where(filled))
    assert torch.equal(_plain_neighbours(finer.coords), finer.neighbours)


def test_children_are_ordered_by_parent_and_octant() -> None:
    """Octant x + 2 y + 4 z; the decoder's features have this order."""
    level = base_level(torch.tensor([[3, 0, 1], [0, 2, 2]], dtype=torch.int32))
    filled = torch.tensor([[0, 1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    expected = [[7, 0, 2], [6, 1, 3], [0, 4, 4], [1, 5, 5]]
    assert expected == Split.where(filled).coords(level).tolist()
