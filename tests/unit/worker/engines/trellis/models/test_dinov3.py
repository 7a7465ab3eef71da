"""The vision transformer that the sampler sees through."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.worker.engines.trellis import tiny, tiny_pipeline
from worker.engines.trellis.models.dinov3 import Dinov3

CPU = torch.device("cpu")


def _model(root: Path) -> Dinov3:
    return Dinov3.read(tiny_pipeline.write(root) / "facebook" / "dino", CPU)


def _plain_features(model: Dinov3, pixels: Tensor) -> Tensor:
    """Restated patch by patch and head by head, in float64, for two heads of eight channels."""
    w = {name: tensor.double() for name, tensor in model.tensors.items()}

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(1))

    def norm(h: Tensor) -> Tensor:
        centred = h - h.mean(1, keepdim=True)
        return centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()

    side = pixels.shape[1] // 64
    places = [(row, column) for row in range(side) for column in range(side)]
    patches = [pixels[:, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64] for row, column in places]
    kernel = w["embeddings.patch_embeddings.weight"]
    embedded = torch.stack([(kernel * patch).sum((1, 2, 3)) for patch in patches])
    embedded = embedded + w["embeddings.patch_embeddings.bias"]
    x = torch.cat((w["embeddings.cls_token"][0], w["embeddings.register_tokens"][0], embedded))
    for i in range(2):
        name = f"layer.{i}"
        h = norm(x) * w[f"{name}.norm1.weight"] + w[f"{name}.norm1.bias"]
        q, k, v = (linear(f"{name}.attention.{part}_proj", h) for part in "qkv")
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            turned_q, turned_k = _turn(q[:, head], places, side), _turn(k[:, head], places, side)
            heads.append(torch.softmax(turned_q @ turned_k.T / 8**0.5, dim=1) @ v[:, head])
        h = linear(f"{name}.attention.o_proj", torch.cat(heads, dim=1))
        x = x + h * w[f"{name}.layer_scale1.lambda1"]
        h = linear(f"{name}.mlp.up_proj", norm(x) * w[f"{name}.norm2.weight"] + w[f"{name}.norm2.bias"])
        h = h * (1 + torch.erf(h / 2**0.5)) / 2
        x = x + linear(f"{name}.mlp.down_proj", h) * w[f"{name}.layer_scale2.lambda1"]
    return norm(x)


def _turn(x: Tensor, places: list[tuple[int, int]], side: int) -> Tensor:
    """Channels c and c + 4 turn together: c = 0, 1 by the row at frequencies 1 and 1/10, c = 2, 3 by the column."""
    x = x.clone()
    for number, place in enumerate(places):
        for c in range(4):
            centre = 2 * (place[c // 2] + 0.5) / side - 1
            angle = torch.tensor(2 * torch.pi * centre * 100 ** (-(c % 2) / 2), dtype=torch.float64)
            first, second = x[5 + number, c].clone(), x[5 + number, c + 4].clone()
            x[5 + number, c] = first * angle.cos() - second * angle.sin()
            x[5 + number, c + 4] = second * angle.cos() + first * angle.sin()
    return x


def test_features_equal_their_plain_restatement(tmp_path: Path) -> None:
    """To 1e-5: patches, class and register tokens, rotary positions, layer scales."""
    model = _model(tmp_path)
    rgb = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    pixels = torch.from_numpy(rgb).double() / 255
    centred = (pixels - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    expected = _plain_features(model, centred.permute(2, 0, 1))
    features = model.features(rgb)
    assert (1 + 4 + 9, tiny.FEATURES) == features.shape
    assert float((features - expected).norm() / expected.norm()) < 1e-5


def test_gated_model_is_refused() -> None:
    """ViT-H and larger have another layer."""
    with pytest.raises(ValueError, match="GELU"):
        Dinov3.of({"use_gated_mlp": True}, {})
