"""The block, compiled once for all models, layers and token counts; and stages of fixed size, recorded once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worker.trellis.block import Context, block
from worker.trellis.flow import Block, FlowModel
from worker.trellis.rope import Phases
from worker.trellis.sampler import Flow

WARM_UP_TOKENS = 1_021  # any number that nothing could take for a constant of the architecture


def compile_block(models: Sequence[FlowModel], picture_tokens: int) -> Block:
    """Compile the block for the widths of `models`, for any number of tokens and every choice of branches.

    Takes about half a minute where TorchInductor's cache is cold; nothing is compiled after it.
    """
    # Rounding where upstream rounds costs nothing and keeps the sample closest to upstream's.
    compiled: Block = torch.compile(block, options={"emulate_precision_casts": True})
    for model in models:
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


class Recorded:
    """A function on tensors of fixed shapes, recorded as a CUDA graph: replaying it costs the host nothing.

    The inputs are copied into the tensors that it was recorded with; the output is overwritten by the next replay.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # lazily made handles and workspaces must be there before recording
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay on these inputs."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output


class RecordedFlow:
    """A model on a fixed set of tokens, as two CUDA graphs (guided and not) that live as long as the model.

    A job's keys and values are written over those of the job before.
    """

    def __init__(self, model: FlowModel, at: Phases, picture_tokens: int) -> None:
        self._contexts = [Context(*_picture(model, picture_tokens), without) for without in model.without]
        flow = Flow(model, at, self._contexts)
        noise = torch.zeros(at.cos.shape[0], model.in_channels, device=at.cos.device)
        inputs = (noise, model.modulation(1.0))
        self._guided = Recorded(lambda x, modulation: flow(x, modulation, guided=True), inputs)
        self._unguided = Recorded(lambda x, modulation: flow(x, modulation, guided=False), inputs)

    def show(self, contexts: Sequence[Context]) -> None:
        """Let the model see another picture."""
        for own, given in zip(self._contexts, contexts, strict=True):
            for mine, theirs in ((own.keys, given.keys), (own.values, given.values)):
                if mine is not None and theirs is not None:
                    mine.copy_(theirs)

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocities of x."""
        return (self._guided if guided else self._unguided)(x, modulation)
