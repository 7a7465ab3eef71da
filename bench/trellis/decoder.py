"""Compare decoding by the real package with FlexGEMM, and by ours, in one run: seconds and relative error.

python -m bench.trellis.decoder --upstream CHECKOUT     (needs a GPU and FlexGEMM; random weights of the real sizes)

Random weights decode to noise, where the smallest difference of rounding makes other voxels. So both decode the voxels
that upstream finds, and how often ours would find others is reported separately.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.support import random_weights
from bench.trellis import upstream
from bench.trellis.sampler import surface_cells
from worker.engines.trellis.models.sparse_decoder import DecoderLevels, SparseDecoder, Split, base_level, child_level

DEVICE = torch.device("cuda")
SPLIT_BIAS = 0.35  # turns so many tokens into five million voxels
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pair:
    """The same weights in upstream's class and in ours."""

    theirs: Any
    ours: SparseDecoder


def build_pair(out_channels: int, *, splits: bool, dtype: torch.dtype = torch.float16) -> Pair:
    """Build a decoder with random weights. splits: whether it finds the voxels itself."""
    from trellis2.models.sc_vaes.sparse_unet_vae import SparseUnetVaeDecoder

    tensors = dict(random_weights.draw_decoder(out_channels, DEVICE))
    for name in list(tensors):
        if name.endswith("to_subdiv.bias"):
            tensors[name] = torch.full_like(tensors[name], SPLIT_BIAS)
        if "to_subdiv" in name and not splits:
            del tensors[name]
    levels, is_half = len(random_weights.WIDTHS), dtype is torch.float16
    theirs = SparseUnetVaeDecoder(
        out_channels,
        list(random_weights.WIDTHS),
        random_weights.LATENTS,
        list(random_weights.DEPTHS),
        ["SparseConvNeXtBlock3d"] * levels,
        ["SparseResBlockC2S3d"] * (levels - 1),
        [{}] * levels,
        use_fp16=is_half,
        pred_subdiv=splits,
    )
    theirs.load_state_dict(tensors)
    return Pair(
        theirs.to(DEVICE).eval(), SparseDecoder.of(random_weights.DECODER_ARGS | {"use_fp16": is_half}, tensors)
    )


def levels_of(cells: Tensor, subdivisions: Sequence[Any]) -> DecoderLevels:
    """Return upstream's levels, coarse to fine."""
    levels = DecoderLevels([base_level(cells)], [])
    for subdivision in subdivisions:
        levels.splits.append(Split.where(subdivision.feats > 0))
        levels.levels.append(child_level(levels.levels[-1], levels.splits[-1]))
    return levels


def measure(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """Return the result of `work`, the seconds of its first run and the median of three more."""
    seconds = []
    for _ in range(4):
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return result, seconds[0], sorted(seconds[1:])[1]


def compare(name: str, theirs: Callable[[], Any], ours: Callable[[Any], Tensor]) -> Any:
    """Print one row; return upstream's result."""
    found, first_s, warm_s = measure(theirs)
    decoded = found[0] if isinstance(found, tuple) else found
    mine, my_first_s, my_warm_s = measure(lambda: ours(found))
    error = float((mine - decoded.feats).norm() / decoded.feats.norm())
    print(
        f"{name:10}{len(mine):>10} voxels  upstream {first_s:7.2f} {warm_s:7.3f} s"
        f"  ours {my_first_s:7.2f} {my_warm_s:7.3f} s  error {error:.2e}",
        flush=True,
    )
    return found


def run(tokens: int, dtype: torch.dtype) -> None:
    """Decode the shape, then the texture on its voxels."""
    from trellis2.modules.sparse import SparseTensor

    cells = surface_cells(tokens).to(DEVICE)
    coords = torch.cat((torch.zeros_like(cells[:, :1]), cells), dim=1)
    shape, texture = build_pair(7, splits=True, dtype=dtype), build_pair(6, splits=False, dtype=dtype)
    latents = [torch.randn(tokens, random_weights.LATENTS, device=DEVICE) for _ in range(2)]

    def along(found: Any) -> Tensor:
        return shape.ours.decode_on_levels(latents[0], levels_of(cells, found[1]), lambda _: None)

    _, subdivisions = compare("shape", lambda: shape.theirs(SparseTensor(latents[0], coords), return_subs=True), along)
    levels = levels_of(cells, subdivisions)
    _, found = shape.ours.decode(latents[0], cells, lambda _: None)
    print(f"voxels: upstream {len(levels.finest.coords)}, ours by itself {len(found.finest.coords)}", flush=True)
    compare(
        "texture",
        lambda: texture.theirs(SparseTensor(latents[1], coords), guide_subs=subdivisions),
        lambda _: texture.ours.decode_on_levels(latents[1], levels, lambda _: None),
    )


def main() -> None:
    """Measure in float16 at full size, then in float32 at a quarter of the tokens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=Path, required=True, help="checkout of the TRELLIS.2 repository")
    parser.add_argument("--tokens", type=int, default=13_992)
    options = parser.parse_args()
    upstream.add_to_path(options.upstream)
    with torch.inference_mode():
        for tokens, dtype in ((options.tokens, torch.float16), (options.tokens // 4, torch.float32)):
            print(f"{tokens} tokens, {dtype}, upstream's and our first and later runs", flush=True)
            run(tokens, dtype)


if __name__ == "__main__":
    main()
