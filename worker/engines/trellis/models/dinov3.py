"""DINOv3's vision transformer (arXiv:2508.10104): the image features that condition the sampler."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from worker.engines.trellis.models.checkpoint import read_tensors

# Mean and standard deviation of ImageNet's colours, with which the input is normalized.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Dinov3:
    """A `DINOv3ViTModel`; computes in the dtype of its weights."""

    tensors: Mapping[str, Tensor]
    layers: int
    heads: int
    patch_px: int
    rope_theta: float
    eps: float

    @classmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Dinov3":
        """Build the model from the weights of a checkpoint. config: its config.json.

        Raises:
            ValueError: the configuration describes another architecture than ViT-S, -B or -L.
        """
        if config.get("use_gated_mlp") or config.get("hidden_act", "gelu") != "gelu":
            raise ValueError("only DINOv3 models with a plain GELU layer are supported")
        return cls(
            tensors,
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            patch_px=config["patch_size"],
            rope_theta=config.get("rope_theta", 100.0),
            eps=config.get("layer_norm_eps", 1e-5),
        )

    @classmethod
    def read(cls, folder: Path, device: torch.device) -> "Dinov3":
        """Read `config.json` and `model.safetensors` in a folder.

        Raises:
            OSError, ValueError: see `read_tensors` and `of`.
        """
        config = json.loads((folder / "config.json").read_text())
        return cls.of(config, read_tensors(folder / "model.safetensors", device))

    def features(self, rgb: NDArray[np.uint8]) -> Tensor:
        """Extract the features of a square image, uint8 [side, side, 3]: [1 + registers + patches, channels].

        The last layer norm omits the model's scale and shift, as in TRELLIS.2's training.
        """
        weight = self.tensors["embeddings.patch_embeddings.weight"]
        mean, deviation = (torch.tensor(values, device=weight.device) for values in (MEAN, DEVIATION))
        pixels = (torch.from_numpy(rgb).to(weight.device).float() / 255 - mean) / deviation
        x = self._embed(pixels.permute(2, 0, 1)[None].to(weight.dtype))
        cos, sin = (part.to(weight.dtype) for part in self._phases(rgb.shape[0] // self.patch_px, weight.device))
        for i in range(self.layers):
            x = self._layer(f"layer.{i}", x, cos, sin)
        return functional.layer_norm(x, x.shape[-1:])

    def _embed(self, pixels: Tensor) -> Tensor:
        weight, bias = (self.tensors[f"embeddings.patch_embeddings.{name}"] for name in ("weight", "bias"))
        patches = functional.conv2d(pixels, weight, bias, stride=self.patch_px)[0].flatten(1).t()
        return torch.cat(
            (self.tensors["embeddings.cls_token"][0], self.tensors["embeddings.register_tokens"][0], patches)
        )

    def _phases(self, patches: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosines and sines by patch and head channel; y rotates the first half of each half, x the second."""
        channels = self.tensors["layer.0.norm1.weight"].shape[0] // self.heads
        inverse = 1 / self.rope_theta ** torch.arange(0, 1, 4 / channels, dtype=torch.float32, device=device)
        centres = 2 * (torch.arange(0.5, patches, device=device) / patches) - 1
        angles = 2 * math.pi * torch.cartesian_prod(centres, centres)[:, :, None] * inverse
        angles = angles.flatten(1).tile(2)
        return angles.cos(), angles.sin()

    def _layer(self, name: str, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = self._attention(f"{name}.attention", self._norm(f"{name}.norm1", x), cos, sin)
        x = x + h * self.tensors[f"{name}.layer_scale1.lambda1"]
        h = functional.gelu(self._linear(f"{name}.mlp.up_proj", self._norm(f"{name}.norm2", x)))
        return x + self._linear(f"{name}.mlp.down_proj", h) * self.tensors[f"{name}.layer_scale2.lambda1"]

    def _attention(self, name: str, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (
            self._linear(f"{name}.{part}_proj", h).unflatten(-1, (self.heads, -1)).transpose(0, 1) for part in "qkv"
        )
        q, k = (_rotate_patches(x, cos, sin)[None] for x in (q, k))
        attended = functional.scaled_dot_product_attention(q, k, v[None])[0]
        return self._linear(f"{name}.o_proj", attended.transpose(0, 1).flatten(1))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.eps)


def _rotate_patches(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [heads, tokens, channels] by its patches' phases; the tokens before the patches have no position."""
    before, patches = x[:, : -len(cos)], x[:, -len(cos) :]
    first, second = patches.chunk(2, dim=-1)
    return torch.cat((before, patches * cos + torch.cat((-second, first), dim=-1) * sin), dim=1)
