"""The two operations that are called as they are inside the compiled block, since libraries have them faster."""

import torch
from torch import Tensor
from torch.nn import functional

# cuDNN's attention is 1.5 times as fast as PyTorch's own, but plans for 70 ms whenever it sees a new number of tokens.
# So it pays where there are many, and where they are always as many: in the sparse structure's grid of 16^3.
PLANNED_TOKENS = 8_192
GRID_TOKENS = 4_096


def _attend(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    q, keys, values = (x.transpose(1, 2) for x in (q, keys, values))
    tokens = q.shape[2]
    if q.is_cuda and q.dtype is not torch.float32 and (tokens >= PLANNED_TOKENS or tokens == GRID_TOKENS):
        seen = torch.ops.aten._scaled_dot_product_cudnn_attention(q, keys, values, None, False)[0]
    else:
        seen = functional.scaled_dot_product_attention(q, keys, values)
    return seen.transpose(1, 2).contiguous()


def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not x.is_cuda or x.dtype is torch.float32:
        return functional.gelu(functional.linear(x, weight, bias), approximate="tanh")
    # cuBLASLt applies bias and GELU (its tanh form) while the product is still in registers.
    fused: Tensor = torch._addmm_activation(bias, x.flatten(0, 1), weight.t(), use_gelu=True)
    return fused.unflatten(0, x.shape[:2])


attend = torch.library.custom_op("trellis::attend", _attend, mutates_args=())
attend.__doc__ = """Attention of q over keys and values, all [branches, tokens, heads, head channels]; the same of q."""
attend.register_fake(lambda q, _keys, _values: torch.empty(q.shape, dtype=q.dtype, device=q.device))

linear_gelu = torch.library.custom_op("trellis::linear_gelu", _linear_gelu, mutates_args=())
linear_gelu.__doc__ = """GELU (tanh form) of a linear layer on x [branches, tokens, channels]."""
linear_gelu.register_fake(lambda x, weight, _bias: x.new_empty(*x.shape[:2], weight.shape[0]))
