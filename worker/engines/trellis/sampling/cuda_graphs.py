"""Steps of the sampler as CUDA graphs: the host launches one thing where it launched five hundred.

A graph knows addresses, not tensors: all that it reads must live, at its place, as long as the graph. So a recording
keeps what it recorded, and with it all that that closes over.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.rope import Phases
from worker.engines.trellis.models.transformer_block import Context
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Velocity

Pool = tuple[int, int]  # memory that recordings share, since no two of them run at once


class CapturedGraph:
    """A function on tensors of fixed shapes, as one CUDA graph, recorded on the present stream (not the default one).

    A call copies its inputs into the tensors that the graph was recorded with. What it returns is overwritten by the
    next call of any recording in the same pool. The function must have run before, on this thread and stream: what
    libraries make at first use cannot be made while recording.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], pool: Pool) -> None:
        self._function = function
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads decode and extract meanwhile, and this one may collect their garbage: what that asks of the
        # driver must not end the recording.
        self._graph.capture_begin(pool=pool, capture_error_mode="relaxed")
        try:
            self._output = function(*self._inputs)
        except BaseException:
            with suppress(RuntimeError):
                self._graph.capture_end()
            raise
        self._graph.capture_end()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay on these inputs, on the present stream."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output


class GraphReplay:
    """A Velocity that runs each kind of step, guided or not, once as it is, records the second and replays the rest.

    Recording takes the host as long as running, but hides behind the step that the GPU is still at. Where the GPU's
    memory does not suffice for it, steps go on as they were.
    """

    def __init__(
        self, velocity: Velocity, pool: Pool, record: Callable[..., Callable[..., Tensor]] = CapturedGraph
    ) -> None:
        self._velocity = velocity
        self._pool = pool
        self._record = record
        self._recorded: dict[bool, Callable[..., Tensor]] = {}
        self._seen: set[bool] = set()

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocities of x, until the next call."""
        if guided in self._recorded:
            return self._recorded[guided](x, modulation)
        velocity = partial(self._velocity, guided=guided)  # refers to nothing of this object: it is freed with the job
        if guided not in self._seen:
            self._seen.add(guided)
            return velocity(x, modulation)
        try:
            self._recorded[guided] = self._record(velocity, (x, modulation), self._pool)
        except torch.OutOfMemoryError:
            self._recorded[guided] = velocity
        return self._recorded[guided](x, modulation)


class StructureGraph:
    """The structure's model on its grid, recorded once for all jobs; a Velocity, of the picture shown last."""

    def __init__(self, model: FlowTransformer, at: Phases, contexts: Sequence[Context], pool: Pool) -> None:
        """contexts: of any picture with as many tokens as those to come."""
        self._contexts = [
            Context(context.keys.clone(), context.values.clone(), context.without)
            for context in contexts
            if context.keys is not None and context.values is not None
        ]
        self._replayed = GraphReplay(ConditionedFlow(model, at, self._contexts), pool)
        noise = torch.zeros(len(at.cos), model.in_channels, device=at.cos.device)
        for guided in (True, True, False, False):
            self(noise, model.modulation(1.0), guided=guided)

    def show(self, contexts: Sequence[Context]) -> None:
        """Let the model see another picture, written over the one before."""
        for own, given in zip(self._contexts, contexts, strict=True):
            for mine, theirs in ((own.keys, given.keys), (own.values, given.values)):
                if mine is not None and theirs is not None:
                    mine.copy_(theirs)

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocities of x, until the next call."""
        return self._replayed(x, modulation, guided=guided)
