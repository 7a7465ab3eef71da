"""The unchanged TRELLIS.2 package from a checkout, the reference of the benches and tests/gpu.

Its sparse attention knows flash-attn and xformers only. Where flash-attn is not installed, PyTorch's own build of the
same kernel stands in for it.
"""

import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def add_to_path(checkout: Path) -> None:
    """Make `import trellis2` work from a checkout of the repository.

    Raises:
        FileNotFoundError: there is no such package.
    """
    if not (checkout / "trellis2" / "models").is_dir():
        raise FileNotFoundError(f"{checkout} is no checkout of TRELLIS.2")
    os.environ.setdefault("ATTN_BACKEND", "flash_attn")
    sys.path.insert(0, str(checkout))
    if importlib.util.find_spec("flash_attn") is None:
        sys.modules["flash_attn"] = _flash_attention()
    if importlib.util.find_spec("easydict") is None:
        sys.modules["easydict"] = _module("easydict", EasyDict=_AttributeDict)


class _AttributeDict(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(members)
    return module


def _flash_attention() -> types.ModuleType:
    return _module(
        "flash_attn",
        flash_attn_func=_dense,
        flash_attn_kvpacked_func=lambda q, kv: _dense(q, *kv.unbind(2)),
        flash_attn_qkvpacked_func=lambda qkv: _dense(*qkv.unbind(2)),
        flash_attn_varlen_func=lambda q, k, v, *_: _sparse(q, k, v),
        flash_attn_varlen_kvpacked_func=lambda q, kv, *_: _sparse(q, *kv.unbind(1)),
        flash_attn_varlen_qkvpacked_func=lambda qkv, *_: _sparse(*qkv.unbind(1)),
    )


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[batch, tokens, heads, head channels]"""
    return functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def _sparse(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, heads, head channels] of one sample"""
    return _dense(q[None], k[None], v[None])[0]


def flow_arguments(**own: Any) -> dict[str, Any]:
    """Return the arguments of the published 1.3 B flow transformers, with those of one model."""
    common = {
        "resolution": 32,
        "in_channels": 32,
        "out_channels": 32,
        "model_channels": 1536,
        "cond_channels": 1024,
        "num_blocks": 30,
        "num_heads": 12,
        "mlp_ratio": 5.3334,
        "pe_mode": "rope",
        "share_mod": True,
        "initialization": "scaled",
        "qk_rms_norm": True,
        "qk_rms_norm_cross": True,
        "dtype": "bfloat16",
    }
    return common | own


def build_random_model(kind: type, arguments: dict[str, Any], device: torch.device, seed: int = 0) -> Any:
    """Build a model of the real package with random weights on the device; every weight affects the output."""
    with torch.device(device):
        model = kind(**arguments).eval()
    generator = torch.Generator(device).manual_seed(seed)
    for name, tensor in model.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.ones_(tensor)
        else:
            scale = 0.05 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
            tensor.data.normal_(0, scale, generator=generator)
    return model
