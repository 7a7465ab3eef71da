"""CUDA graphs of the sampler's steps: the host launches one graph instead of five hundred kernels.

A graph stores addresses, not tensors: all that it reads must stay at its address as long as the graph lives. So a
captured graph keeps its function, and with it every tensor that the function refers to.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.transformer_block import Context, Phases
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Velocity

Pool = tuple[int, int]  # memory that graphs share, since no two of them run at the same time


class CapturedGraph:
    """A function on tensors of fixed shapes as one CUDA graph, captured on the current stream (not the default one).

    A call copies its inputs into the tensors that the graph was captured with. Its result is overwritten by the next
    call of any graph in the same pool. The function must have run before, on this thread and stream: libraries cannot
    do their first-use allocations during capture.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], pool: Pool) -> None:
        self._function = function
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads decode and extract at the same time, and this one may collect their garbage: the driver calls
        # of that must not end the capture.
        self._graph.capture_begin(pool=pool, capture_error_mode="relaxed")
        try:
            self._output = function(*self._inputs)
        except BaseException:
            with suppress(RuntimeError):
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay with these inputs on the current stream."""
        for captured, value in zip(self._inputs, inputs, strict=True):
            captured.copy_(value)
        self._graph.replay()
        return self._output


class GraphReplay:
    """A Velocity that runs the first step of each kind (guided or not) directly, captures the second, replays the rest.

    Capturing takes the host as long as running, but is hidden behind the GPU's current step. If the GPU's memory is too
    small for a graph, steps continue without one.
    """

    def __init__(
        self, velocity: Velocity, pool: Pool, capture: Callable[..., Callable[..., Tensor]] = CapturedGraph
    ) -> None:
        self._velocity = velocity
        self._pool = pool
        self._capture = capture
        self._graphs: dict[bool, Callable[..., Tensor]] = {}
        self._has_run: set[bool] = set()

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """Return the velocities of x; valid until the next call."""
        if guided in self._graphs:
            return self._graphs[guided](x, modulation)
        velocity = partial(self._velocity, guided=guided)  # without a reference to self: freed with the job
        if guided not in self._has_run:
            self._has_run.add(guided)
            return velocity(x, modulation)
        try:
            self._graphs[guided] = self._capture(velocity, (x, modulation), self._pool)
        except torch.OutOfMemoryError:
            self._graphs[guided] = velocity
        return self._graphs[guided](x, modulation)


class StructureGraph:
    """The structure's flow transformer on its grid, captured once for all jobs: a Velocity for the latest image."""

    def __init__(self, model: FlowTransformer, phases: Phases, contexts: Sequence[Context], pool: Pool) -> None:
        """Capture the graphs. contexts: of any image with the same number of tokens as later ones."""
        self._contexts = [
            Context(context.keys.clone(), context.values.clone(), context.unconditional)
            for context in contexts
            if context.keys is not None and context.values is not None
        ]
        self._replay = GraphReplay(ConditionedFlow(model, phases, self._contexts), pool)
        noise = torch.zeros(len(phases.cos), model.in_channels, device=phases.cos.device)
        for guided in (True, True, False, False):
            self(noise, model.modulation(1.0), guided=guided)

    def set_image(self, contexts: Sequence[Context]) -> None:
        """Replace the image's keys and values."""
        for captured, context in zip(self._contexts, contexts, strict=True):
            for target, source in ((captured.keys, context.keys), (captured.values, context.values)):
                if target is not None and source is not None:
                    target.copy_(source)

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """Return the velocities of x; valid until the next call."""
        return self._replay(x, modulation, guided=guided)
