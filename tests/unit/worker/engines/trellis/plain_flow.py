"""The flow transformer restated head by head and pair by pair, in float64: slow, and plain enough to be read off."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.unit.worker.engines.trellis.tiny import BLOCKS, CHANNELS, HEADS, WIDTH


def velocity(tensors: Mapping[str, Tensor], x: Tensor, time: float, coords: Tensor, image: Tensor) -> Tensor:
    """The velocity of x [tokens, in_channels], seeing image [image tokens, features]."""
    w = {name: tensor.double() for name, tensor in tensors.items()}
    shared = _modulation(w, time)
    h = _linear(w, "input_layer", x.double())
    for i in range(BLOCKS):
        prefix = f"blocks.{i}."
        own = {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}
        h = _block(own, h, own["modulation"] + shared, coords, image.double())
    return _linear(w, "out_layer", _layer_norm(h, 1e-5))


def _modulation(w: Mapping[str, Tensor], time: float) -> Tensor:
    angles = [1000 * time * 10_000 ** (-i / 128) for i in range(128)]
    sines = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64)
    hidden = _silu(_linear(w, "t_embedder.mlp.0", sines))
    return _linear(w, "adaLN_modulation.1", _silu(_linear(w, "t_embedder.mlp.2", hidden)))


def _block(w: Mapping[str, Tensor], x: Tensor, modulation: Tensor, coords: Tensor, image: Tensor) -> Tensor:
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.split(CHANNELS)
    h = _layer_norm(x) * (1 + scale) + shift
    q, k, v = _linear(w, "self_attn.to_qkv", h).split(CHANNELS, dim=1)
    q = _turn(_rms_norm(q, w["self_attn.q_rms_norm.gamma"]), coords)
    k = _turn(_rms_norm(k, w["self_attn.k_rms_norm.gamma"]), coords)
    x = x + _linear(w, "self_attn.to_out", _attention(q, k, v)) * gate
    h = _layer_norm(x) * w["norm2.weight"] + w["norm2.bias"]
    q = _rms_norm(_linear(w, "cross_attn.to_q", h), w["cross_attn.q_rms_norm.gamma"])
    k, v = _linear(w, "cross_attn.to_kv", image).split(CHANNELS, dim=1)
    k = _rms_norm(k, w["cross_attn.k_rms_norm.gamma"])
    x = x + _linear(w, "cross_attn.to_out", _attention(q, k, v))
    h = _layer_norm(x) * (1 + mlp_scale) + mlp_shift
    h = _linear(w, "mlp.mlp.0", h)
    h = h * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return x + _linear(w, "mlp.mlp.2", h) * mlp_gate


def _linear(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def _layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(dim=1, keepdim=True) + eps)


def _rms_norm(x: Tensor, gamma: Tensor) -> Tensor:
    heads = x.reshape(len(x), HEADS, WIDTH)
    return (heads / torch.sqrt((heads**2).mean(dim=2, keepdim=True)) * gamma).reshape(len(x), CHANNELS)


def _turn(x: Tensor, coords: Tensor) -> Tensor:
    """Pair p of a head's 8 turns by axis p // 2, 2 pairs an axis; the last 2 do not turn."""
    heads = x.reshape(len(x), HEADS, WIDTH // 2, 2).clone()
    for pair in range(6):
        axis, order = divmod(pair, 2)
        angle = coords[:, axis].double() * 10_000 ** (-order / 2)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        even, odd = heads[:, :, pair, 0].clone(), heads[:, :, pair, 1].clone()
        heads[:, :, pair, 0], heads[:, :, pair, 1] = even * cos - odd * sin, even * sin + odd * cos
    return heads.reshape(len(x), CHANNELS)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    attended = []
    for head in range(HEADS):
        mine = slice(head * WIDTH, (head + 1) * WIDTH)
        weights = torch.softmax(q[:, mine] @ k[:, mine].T / math.sqrt(WIDTH), dim=1)
        attended.append(weights @ v[:, mine])
    return torch.cat(attended, dim=1)
