"""All models of the pipeline, loaded from a folder of weights that mirrors the Hub's names, resident on one device."""

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
from worker.engines.trellis.models.checkpoint import read_checkpoint
from worker.engines.trellis.models.dinov3 import Dinov3
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.sparse_decoder import SparseDecoder
from worker.engines.trellis.models.structure_decoder import StructureDecoder
from worker.engines.trellis.preprocessing import BiRefNet, ExtractFeatures, RemoveBackground
from worker.engines.trellis.sampling.cuda_graphs import Pool, StructureGraph
from worker.engines.trellis.sampling.latents import Normalization

PIPELINE = "microsoft/TRELLIS.2-4B"
BACKGROUND_REMOVAL = "ZhengPeng7/BiRefNet"  # the pipeline's own choice, RMBG-2.0, is not for commercial use


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """The parameters of a stage's sampler that the pipeline fixes; the caller chooses the others."""

    sigma_min: float
    guidance_interval: tuple[float, float]


@dataclass(slots=True)
class PipelineModels:
    """All networks of the pipeline, and their constants.

    flows: shape and texture transformers by stage (`shape`, `tex`) and resolution. structure_graph: `structure_flow` on
    its grid as CUDA graphs, on a GPU. graph_pool: the memory that CUDA graphs share.
    """

    device: torch.device
    extract_features: ExtractFeatures
    remove_background: RemoveBackground
    structure_flow: FlowTransformer
    structure_decoder: StructureDecoder
    flows: dict[tuple[str, int], FlowTransformer]
    shape_decoder: SparseDecoder
    texture_decoder: SparseDecoder
    samplers: Mapping[str, SamplerSettings]
    shape_scale: Normalization
    texture_scale: Normalization
    structure_graph: StructureGraph | None = None
    graph_pool: Pool | None = None


def load_models(root: Path, device: torch.device) -> PipelineModels:
    """Load every model below `root`: `microsoft/TRELLIS.2-4B/pipeline.json` and the checkpoints that it names.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError, KeyError: a file has unexpected content.
    """
    folder, matting = root / PIPELINE, root / BACKGROUND_REMOVAL
    args = json.loads((folder / "pipeline.json").read_text())["args"]

    def checkpoint(name: str) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        # A checkpoint of the pipeline's own repository, or of another one, named with its owner.
        local, external = folder / args["models"][name], root / args["models"][name]
        read = read_checkpoint(local if Path(f"{local}.json").exists() else external, device)
        return read.args, read.tensors

    return PipelineModels(
        device=device,
        extract_features=Dinov3.read(root / args["image_cond_model"]["args"]["model_name"], device).features,
        remove_background=BiRefNet(matting, device) if matting.exists() else refuse_background_removal,
        structure_flow=FlowTransformer.of(*checkpoint("sparse_structure_flow_model")),
        structure_decoder=StructureDecoder.of(*checkpoint("sparse_structure_decoder")),
        flows={
            (stage, resolution): FlowTransformer.of(*checkpoint(f"{stage}_slat_flow_model_{resolution}"))
            for stage in ("shape", "tex")
            for resolution in (512, 1024)
        },
        shape_decoder=SparseDecoder.of(*checkpoint("shape_slat_decoder")),
        texture_decoder=SparseDecoder.of(*checkpoint("tex_slat_decoder")),
        samplers={
            stage: _settings(args[f"{stage}_sampler"]) for stage in ("sparse_structure", "shape_slat", "tex_slat")
        },
        shape_scale=_normalization(args["shape_slat_normalization"], device),
        texture_scale=_normalization(args["tex_slat_normalization"], device),
    )


def refuse_background_removal(_: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stand in for the background removal if its weights are not installed.

    Raises:
        NoObjectFound: always.
    """
    raise NoObjectFound("this service cannot remove a background: send an image with an alpha channel")


def _settings(sampler: Mapping[str, Any]) -> SamplerSettings:
    first, last = sampler["params"]["guidance_interval"]
    return SamplerSettings(sampler["args"]["sigma_min"], (first, last))


def _normalization(values: Mapping[str, list[float]], device: torch.device) -> Normalization:
    mean, deviation = (torch.tensor(values[name], device=device)[None] for name in ("mean", "std"))
    return Normalization(mean, deviation)
