"""A stage whose shapes never change, recorded once as CUDA graphs: replaying them costs the host nothing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worker.trellis.block import Context
from worker.trellis.flow import FlowModel
from worker.trellis.rope import Phases
from worker.trellis.sampler import Flow

Pool = tuple[int, int]


class Recorded:
    """A function on tensors of fixed shapes, as one CUDA graph.

    A call copies its inputs into the tensors that the graph was recorded with. What it returns is overwritten by the
    next call. A graph knows addresses, not tensors: all that the function reads must live, at its place, as long as the
    graph. So the function is kept, and with it all that it closes over.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], pool: Pool) -> None:
        self._function = function
        self._inputs = [tensor.clone() for tensor in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # what libraries make at first use cannot be made while recording
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=aside):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay on these inputs, on the present stream."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output


class RecordedFlow:
    """A model on a fixed set of tokens, as two CUDA graphs (guided and not); one job at a time.

    A Velocity, of the picture that `show` was given last.
    """

    def __init__(self, model: FlowModel, at: Phases, contexts: Sequence[Context]) -> None:
        """contexts: of any picture with as many tokens as those to come."""
        self._contexts = [
            Context(context.keys.clone(), context.values.clone(), context.without)
            for context in contexts
            if context.keys is not None and context.values is not None
        ]
        flow = Flow(model, at, self._contexts)
        noise = torch.zeros(len(at.cos), model.in_channels, device=at.cos.device)
        inputs, pool = (noise, model.modulation(1.0)), torch.cuda.graph_pool_handle()
        self._guided = Recorded(lambda x, modulation: flow(x, modulation, guided=True), inputs, pool)
        self._unguided = Recorded(lambda x, modulation: flow(x, modulation, guided=False), inputs, pool)

    def show(self, contexts: Sequence[Context]) -> None:
        """Let the model see another picture, written over the one before."""
        for own, given in zip(self._contexts, contexts, strict=True):
            for mine, theirs in ((own.keys, given.keys), (own.values, given.values)):
                if mine is not None and theirs is not None:
                    mine.copy_(theirs)

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocities of x, until the next call."""
        return (self._guided if guided else self._unguided)(x, modulation)
