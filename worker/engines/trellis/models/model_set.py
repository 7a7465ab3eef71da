"""All of the pipeline's models, read from a folder that mirrors the hub's names, resident on one device."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import NoObjectFound
from worker.engines.trellis.background_removal import BiRefNet
from worker.engines.trellis.checkpoint import read_checkpoint
from worker.engines.trellis.conditioning import Features, Matte
from worker.engines.trellis.models.dinov3 import Dinov3
from worker.engines.trellis.models.flow_transformer import FlowModel
from worker.engines.trellis.models.sparse_decoder import Decoder
from worker.engines.trellis.models.structure_decoder import StructureDecoder
from worker.engines.trellis.sampling.cuda_graphs import Pool, RecordedGrid

PIPELINE = "microsoft/TRELLIS.2-4B"
MATTE = "ZhengPeng7/BiRefNet"  # the pipeline's own choice, RMBG-2.0, is not for commercial use


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What the pipeline fixes for a stage's sampler; all else is the caller's."""

    sigma_min: float
    guidance_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Normalization:
    """The scale of a stage's latents: float32 [1, channels] both."""

    mean: Tensor
    deviation: Tensor

    def restore(self, latents: Tensor) -> Tensor:
        """From the sampler's scale to the decoder's."""
        return latents * self.deviation + self.mean

    def apply(self, latents: Tensor) -> Tensor:
        """From the decoder's scale to the sampler's."""
        return (latents - self.mean) / self.deviation


@dataclass(slots=True)
class Models:
    """The pipeline. flows: shape and texture transformers by stage (`shape`, `tex`) and resolution.

    recorded: `structure` on its grid, on a GPU. pool: the memory of what is recorded there.
    """

    device: torch.device
    features: Features
    matte: Matte
    structure: FlowModel
    structure_decoder: StructureDecoder
    flows: dict[tuple[str, int], FlowModel]
    shape_decoder: Decoder
    texture_decoder: Decoder
    samplers: Mapping[str, SamplerSettings]
    shape_scale: Normalization
    texture_scale: Normalization
    recorded: RecordedGrid | None = None
    pool: Pool | None = None


def read_models(root: Path, device: torch.device) -> Models:
    """Read every model below `root`: `microsoft/TRELLIS.2-4B/pipeline.json` and what it names.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError, KeyError: a file is not what it should be.
    """
    folder = root / PIPELINE
    args = json.loads((folder / "pipeline.json").read_text())["args"]

    def checkpoint(name: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        own, other = folder / args["models"][name], root / args["models"][name]
        read = read_checkpoint(own if Path(f"{own}.json").exists() else other, device)
        return read.args, read.tensors

    return Models(
        device=device,
        features=Dinov3.read(root / args["image_cond_model"]["args"]["model_name"], device).features,
        matte=BiRefNet(root / MATTE, device) if (root / MATTE).exists() else no_matte,
        structure=FlowModel.of(*checkpoint("sparse_structure_flow_model")),
        structure_decoder=StructureDecoder.of(*checkpoint("sparse_structure_decoder")),
        flows={
            (stage, resolution): FlowModel.of(*checkpoint(f"{stage}_slat_flow_model_{resolution}"))
            for stage in ("shape", "tex")
            for resolution in (512, 1024)
        },
        shape_decoder=Decoder.of(*checkpoint("shape_slat_decoder")),
        texture_decoder=Decoder.of(*checkpoint("tex_slat_decoder")),
        samplers={
            stage: _settings(args[f"{stage}_sampler"]) for stage in ("sparse_structure", "shape_slat", "tex_slat")
        },
        shape_scale=_normalization(args["shape_slat_normalization"], device),
        texture_scale=_normalization(args["tex_slat_normalization"], device),
    )


def no_matte(_: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What there is where no background removal is installed.

    Raises:
        NoObjectFound: always.
    """
    raise NoObjectFound("this service cannot tell an object from its background: send a picture with an alpha channel")


def _settings(sampler: Mapping[str, Any]) -> SamplerSettings:
    first, last = sampler["params"]["guidance_interval"]
    return SamplerSettings(sampler["args"]["sigma_min"], (first, last))


def _normalization(values: Mapping[str, list[float]], device: torch.device) -> Normalization:
    mean, deviation = (torch.tensor(values[name], device=device)[None] for name in ("mean", "std"))
    return Normalization(mean, deviation)
