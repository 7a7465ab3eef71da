"""A folder of weights as the hub has them, every model of the published structure at tiny widths."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from tests.unit.worker.engines.trellis import tiny

DINO_CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 64,
    "hidden_act": "gelu",
    "use_gated_mlp": False,
}
MEAN, DEVIATION = [0.5] * 8, [2.0] * 8
_FLOWS = {
    "sparse_structure_flow_model": {"resolution": 8},
    "shape_slat_flow_model_512": {"resolution": 32},
    "shape_slat_flow_model_1024": {"resolution": 64},
    "tex_slat_flow_model_512": {"resolution": 32, "in_channels": 16},
    "tex_slat_flow_model_1024": {"resolution": 64, "in_channels": 16},
}


def write(root: Path, *, bias: float = -0.1) -> Path:
    """Write all of it below `root`, and give that back. bias: see `tiny.structure_tensors`."""
    folder = root / "microsoft" / "TRELLIS.2-4B"
    models = {}
    for seed, (name, own) in enumerate(_FLOWS.items()):
        tensors = tiny.flow_tensors(in_channels=own.get("in_channels", 8), seed=seed)
        models[name] = _save(folder, f"ckpts/{name}", "SLatFlowModel", tiny.ARGS | own, tensors)
    shape, texture = tiny.decoder_tensors(7, splits=True, seed=7), tiny.decoder_tensors(6, splits=False, seed=8)
    models["shape_slat_decoder"] = _save(folder, "ckpts/shape", "FlexiDualGridVaeDecoder", tiny.DECODER_ARGS, shape)
    models["tex_slat_decoder"] = _save(folder, "ckpts/tex", "SparseUnetVaeDecoder", tiny.DECODER_ARGS, texture)
    elsewhere = "microsoft/TRELLIS-image-large/ckpts/structure"
    structure = tiny.structure_tensors(bias=bias)
    models["sparse_structure_decoder"] = elsewhere
    _save(root, elsewhere, "SparseStructureDecoder", tiny.STRUCTURE_ARGS, structure)
    _write_dino(root / "facebook" / "dino")
    (folder / "pipeline.json").write_text(json.dumps({"args": _arguments(models)}))
    return root


def _arguments(models: dict[str, str]) -> dict[str, Any]:
    sampler = {"args": {"sigma_min": 1e-5}, "params": {"guidance_interval": [0.6, 1.0]}}
    normalization = {"mean": MEAN, "std": DEVIATION}
    return {
        "models": models,
        **{f"{stage}_sampler": sampler for stage in ("sparse_structure", "shape_slat", "tex_slat")},
        "shape_slat_normalization": normalization,
        "tex_slat_normalization": normalization,
        "image_cond_model": {"args": {"model_name": "facebook/dino"}},
        "rembg_model": {"args": {"model_name": "briaai/RMBG-2.0"}},
    }


def _save(root: Path, path: str, name: str, args: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Path(root / f"{path}.json").write_text(json.dumps({"name": name, "args": args}))
    save_file(tensors, root / f"{path}.safetensors")
    return path


def _write_dino(folder: Path) -> None:
    width = tiny.FEATURES
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.register_tokens": (1, 4, width),
        "embeddings.patch_embeddings.weight": (width, 3, 64, 64),
        "embeddings.patch_embeddings.bias": (width,),
    }
    for i in range(2):
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"layer.{i}.attention.{part}.weight"] = (width, width)
            if part != "k_proj":
                shapes[f"layer.{i}.attention.{part}.bias"] = (width,)
        for part in ("norm1", "norm2"):
            shapes |= {f"layer.{i}.{part}.weight": (width,), f"layer.{i}.{part}.bias": (width,)}
        shapes |= {f"layer.{i}.layer_scale{n}.lambda1": (width,) for n in (1, 2)}
        shapes |= {f"layer.{i}.mlp.up_proj.weight": (40, width), f"layer.{i}.mlp.up_proj.bias": (40,)}
        shapes |= {f"layer.{i}.mlp.down_proj.weight": (width, 40), f"layer.{i}.mlp.down_proj.bias": (width,)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(DINO_CONFIG))
    save_file(tiny.random_tensors(shapes, 9), folder / "model.safetensors")
