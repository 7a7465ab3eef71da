"""Write random weights for the whole pipeline in the published layout and sizes, to measure without the real ones.

python -m bench.support.random_weights FOLDER     (needs a GPU; 15 GB)
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.sparse_decoder import BLOCK, UPSAMPLE
from worker.engines.trellis.pipeline_models import PIPELINE

CHANNELS, HIDDEN, HEADS, BLOCKS, FEATURES = 1536, 8192, 12, 30, 1024
WIDTHS, DEPTHS, LATENTS = (1024, 512, 256, 128, 64), (4, 16, 8, 4, 0), 32
Shapes = dict[str, tuple[int, ...]]

FLOW_ARGS: dict[str, Any] = {
    "resolution": 16,
    "num_blocks": BLOCKS,
    "dtype": "bfloat16",
    "pe_mode": "rope",
    "share_mod": True,
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}
DECODER_ARGS: dict[str, Any] = {
    "num_blocks": DEPTHS,
    "block_type": [BLOCK],
    "up_block_type": [UPSAMPLE],
    "use_fp16": True,
}
STRUCTURE_ARGS: dict[str, Any] = {
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [512, 128, 32],
    "use_fp16": True,
}
DINO = "facebook/dinov3"
DINO_CONFIG: dict[str, Any] = {"num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 16}


def write_weights(root: Path, device: torch.device) -> int:
    """Write all models below `root` in the hub's layout; return the bytes written, about 15 GB."""
    folder = root / PIPELINE
    models = {
        f"{stage}_slat_flow_model_{resolution}": _save(
            folder, f"ckpts/{stage}_{resolution}", "SLatFlowModel", *draw_flow(width, 32, device)
        )
        for stage, width in (("shape", 32), ("tex", 64))
        for resolution in (512, 1024)
    }
    structure = draw_flow(8, 8, device)
    models["sparse_structure_flow_model"] = _save(folder, "ckpts/ss", "SparseStructureFlowModel", *structure)
    parts = {"shape_slat_decoder": ("FlexiDualGridVaeDecoder", 7), "tex_slat_decoder": ("SparseUnetVaeDecoder", 6)}
    for part, (name, channels) in parts.items():
        models[part] = _save(folder, f"ckpts/{part}", name, DECODER_ARGS, draw_decoder(channels, device))
    dense = draw_structure_decoder(device)
    models["sparse_structure_decoder"] = _save(root, "ckpts/ss_dec", "SparseStructureDecoder", STRUCTURE_ARGS, dense)
    _save(root, f"{DINO}/model", "", {}, _draw(_dino(), torch.float32, device))
    (root / DINO / "config.json").write_text(json.dumps(DINO_CONFIG))
    (folder / "pipeline.json").write_text(json.dumps({"args": _pipeline_arguments(models)}))
    return sum(file.stat().st_size for file in root.rglob("*.safetensors"))


def _pipeline_arguments(models: Mapping[str, str]) -> dict[str, Any]:
    sampler = {"args": {"sigma_min": 1e-5}, "params": {"guidance_interval": [0.6, 1.0]}}
    normalization = {"mean": [0.0] * LATENTS, "std": [1.0] * LATENTS}
    return {
        "models": models,
        **{f"{stage}_sampler": sampler for stage in ("sparse_structure", "shape_slat", "tex_slat")},
        "shape_slat_normalization": normalization,
        "tex_slat_normalization": normalization,
        "image_cond_model": {"args": {"model_name": DINO}},
    }


def _save(root: Path, path: str, name: str, args: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Path(root / f"{path}.json").write_text(json.dumps({"name": name, "args": dict(args)}))
    save_file({tensor_name: tensor.cpu() for tensor_name, tensor in tensors.items()}, root / f"{path}.safetensors")
    return path


def build_flow(in_channels: int, out_channels: int, device: torch.device, blocks: int = BLOCKS) -> FlowTransformer:
    """Draw a flow transformer with a bfloat16 torso."""
    return FlowTransformer.of(*draw_flow(in_channels, out_channels, device, blocks))


def draw_flow(
    in_channels: int, out_channels: int, device: torch.device, blocks: int = BLOCKS
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return its arguments and tensors."""
    args = FLOW_ARGS | {"in_channels": in_channels, "out_channels": out_channels, "num_blocks": blocks}
    ends = _linear("t_embedder.mlp.0", 256, CHANNELS) | _linear("t_embedder.mlp.2", CHANNELS, CHANNELS)
    ends |= _linear("adaLN_modulation.1", CHANNELS, 6 * CHANNELS)
    ends |= _linear("input_layer", in_channels, CHANNELS) | _linear("out_layer", CHANNELS, out_channels)
    torso: Shapes = {}
    for i in range(blocks):
        name, gamma = f"blocks.{i}", (HEADS, CHANNELS // HEADS)
        for attention, parts in (("self_attn", ("q", "k")), ("cross_attn", ("q", "k"))):
            ends |= {f"{name}.{attention}.{part}_rms_norm.gamma": gamma for part in parts}
        ends |= {f"{name}.modulation": (6 * CHANNELS,)} | _norm(f"{name}.norm2", CHANNELS)
        torso |= _linear(f"{name}.self_attn.to_qkv", CHANNELS, 3 * CHANNELS)
        torso |= _linear(f"{name}.cross_attn.to_kv", FEATURES, 2 * CHANNELS)
        torso |= _linear(f"{name}.mlp.mlp.0", CHANNELS, HIDDEN) | _linear(f"{name}.mlp.mlp.2", HIDDEN, CHANNELS)
        for layer in ("self_attn.to_out", "cross_attn.to_q", "cross_attn.to_out"):
            torso |= _linear(f"{name}.{layer}", CHANNELS, CHANNELS)
    return args, _draw(ends, torch.float32, device) | _draw(torso, torch.bfloat16, device)


def draw_decoder(out_channels: int, device: torch.device) -> Mapping[str, Tensor]:
    """Draw the tensors of a sparse decoder with a float16 torso."""
    torso: Shapes = {}
    for i, width in enumerate(WIDTHS):
        for j in range(DEPTHS[i]):
            name = f"blocks.{i}.{j}"
            torso |= _convolution(f"{name}.conv", width, width) | _norm(f"{name}.norm", width)
            torso |= _linear(f"{name}.mlp.0", width, 4 * width) | _linear(f"{name}.mlp.2", 4 * width, width)
        if i < len(WIDTHS) - 1:
            name, finer = f"blocks.{i}.{DEPTHS[i]}", WIDTHS[i + 1]
            torso |= _norm(f"{name}.norm1", width) | _linear(f"{name}.to_subdiv", width, 8)
            torso |= _convolution(f"{name}.conv1", width, 8 * finer) | _convolution(f"{name}.conv2", finer, finer)
    ends = _linear("from_latent", LATENTS, WIDTHS[0]) | _linear("output_layer", WIDTHS[-1], out_channels)
    return _draw(torso, torch.float16, device) | _draw(ends, torch.float32, device)


def draw_structure_decoder(device: torch.device) -> Mapping[str, Tensor]:
    """Draw the tensors of the dense decoder with a float16 torso."""
    ends = _dense("input_layer", 8, 512) | _norm("out_layer.0", 32) | _dense("out_layer.2", 32, 1)
    return _draw(_structure_torso(), torch.float16, device) | _draw(ends, torch.float32, device)


def _structure_torso() -> Shapes:
    shapes: Shapes = {}
    names = ["middle_block.0", "middle_block.1"]
    index = 0
    for level, width in enumerate((512, 128, 32)):
        names += [f"blocks.{index}", f"blocks.{index + 1}"]
        for name in names:
            for part in ("1", "2"):
                shapes |= _norm(f"{name}.norm{part}", width) | _dense(f"{name}.conv{part}", width, width)
        if level < 2:
            shapes |= _dense(f"blocks.{index + 2}.conv", width, 8 * (128, 32)[level])
        names, index = [], index + 3
    return shapes


def _dino() -> Shapes:
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, FEATURES),
        "embeddings.register_tokens": (1, 4, FEATURES),
        "embeddings.patch_embeddings.weight": (FEATURES, 3, 16, 16),
        "embeddings.patch_embeddings.bias": (FEATURES,),
    }
    for i in range(24):
        name = f"layer.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes |= _linear(f"{name}.attention.{part}", FEATURES, FEATURES)
        shapes |= _norm(f"{name}.norm1", FEATURES) | _norm(f"{name}.norm2", FEATURES)
        shapes |= {f"{name}.layer_scale{n}.lambda1": (FEATURES,) for n in (1, 2)}
        shapes |= _linear(f"{name}.mlp.up_proj", FEATURES, 4096) | _linear(f"{name}.mlp.down_proj", 4096, FEATURES)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _convolution(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, 3, 3, 3, inputs), f"{name}.bias": (outputs,)}


def _dense(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, 3, 3, 3), f"{name}.bias": (outputs,)}


def _draw(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Draw normal tensors; a layer about keeps the scale of its input, gammas and norms are 1."""
    drawn = {}
    for name, shape in shapes.items():
        if name.endswith("gamma") or (".norm" in name and name.endswith("weight")):
            drawn[name] = torch.ones(shape, dtype=dtype, device=device)
        else:
            scale = torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.05
            drawn[name] = torch.randn(shape, dtype=dtype, device=device) * scale
    return drawn


if __name__ == "__main__":
    print(f"{write_weights(Path(sys.argv[1]), torch.device('cuda')) / 1e9:.1f} GB")
