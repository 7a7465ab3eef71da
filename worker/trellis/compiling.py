"""The block, compiled once for all models, layers and token counts."""

import torch
from torch import Tensor

from worker.trellis.block import Context, block
from worker.trellis.flow import Block, FlowModel

WARM_UP_TOKENS = 1_021  # any number that nothing could take for a constant of the architecture


def compile_block(model: FlowModel, picture_tokens: int) -> Block:
    """Compile the block for the widths of `model`, for any number of tokens and every choice of branches.

    Takes about half a minute where TorchInductor's cache is cold; nothing is compiled after it.
    """
    # Rounding where upstream rounds costs nothing and keeps the sample closest to upstream's.
    compiled: Block = torch.compile(block, options={"emulate_precision_casts": True})
    picture = _picture(model, picture_tokens)
    for tensor in picture:
        torch._dynamo.mark_dynamic(tensor, 1)
    shown, hidden = Context(*picture, model.without[0]), Context(None, None, model.without[0])
    for branches, context in ((1, shown), (1, hidden), (2, shown)):
        _run_once(compiled, model, branches, context)
    return compiled


def _run_once(compiled: Block, model: FlowModel, branches: int, context: Context) -> None:
    heads, width = model.blocks[0].q_gamma.shape
    like = {"dtype": model.dtype, "device": context.without.device}
    x = torch.zeros(branches, WARM_UP_TOKENS, heads * width, **like)
    angles = [torch.zeros(WARM_UP_TOKENS, width // 2, device=x.device) for _ in range(2)]
    torch._dynamo.mark_dynamic(x, 1)
    for angle in angles:
        torch._dynamo.mark_dynamic(angle, 0)
    compiled(x, torch.zeros(6, heads * width, **like), *angles, model.blocks[0], context)


def _picture(model: FlowModel, tokens: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a picture of zeros."""
    shape = (1, tokens, *model.blocks[0].q_gamma.shape)
    like = {"dtype": model.dtype, "device": model.modulations.device}
    return torch.zeros(shape, **like), torch.zeros(shape, **like)
