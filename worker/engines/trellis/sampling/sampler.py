"""The Euler sampler of rectified flows: from noise to a sample along the guided velocity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.rope import Phases
from worker.engines.trellis.models.transformer_block import Context
from worker.engines.trellis.sampling.guidance import Guidance
from worker.engines.trellis.sampling.schedule import Step

# Called before each step with the share of steps done (0-1); what it raises ends the sampling.
OnStep = Callable[[float], None]


class Velocity(Protocol):
    """What the sampler asks of a model: all but x and the time is settled for the whole stage."""

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocity of x with the picture and, if `guided`, the one without it: [1 or 2, tokens, channels]."""


# Up to so many tokens, the two velocities of a guided step are computed together: that fills the GPU better. Beyond,
# one after the other is as fast, in half the memory.
TOGETHER_TOKENS = 6_144


@dataclass(frozen=True, slots=True)
class ConditionedFlow:
    """A model on one set of tokens, with one picture.

    beside: float32 [tokens, channels] that each step sees beside the latents (the shape, while texturing).
    """

    model: FlowTransformer
    at: Phases
    contexts: Sequence[Context]
    beside: Tensor | None = None

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """The velocities of x."""
        seen = x if self.beside is None else torch.cat((x, self.beside), dim=-1)
        if guided and len(x) <= TOGETHER_TOKENS:
            return self.model.velocities(seen, modulation, self.at, self.contexts, branches=2)
        velocities = self.model.velocities(seen, modulation, self.at, self.contexts, branches=1)
        if not guided:
            return velocities
        without = self.model.velocities(seen, modulation, self.at, self.model.no_contexts(), branches=1)
        return torch.cat((velocities, without))


def sample(
    model: FlowTransformer,
    velocity: Velocity,
    noise: Tensor,
    schedule: Sequence[Step],
    guidance: Guidance,
    on_step: OnStep = lambda _: None,
) -> Tensor:
    """Carry noise, float32 [tokens, channels], through the schedule."""
    x = noise
    pace = StepTimer(x.device)
    for i, step in enumerate(schedule):
        on_step(i / len(schedule))
        x = x - (step.time - step.until) * _guided(velocity, x, model.modulation(step.time), step, guidance)
        pace.wait()
    return x


def _guided(velocity: Velocity, x: Tensor, modulation: Tensor, step: Step, guidance: Guidance) -> Tensor:
    if not step.guided or guidance.strength == 1:
        return velocity(x, modulation, guided=False)[0]
    velocities = velocity(x, modulation, guided=True)
    if guidance.strength == 0:
        return velocities[1]
    return guidance.combine(x, step.time, velocities)


class StepTimer:
    """Keeps the host one step ahead of the GPU: never idle, and never so far that a cancel comes too late."""

    def __init__(self, device: torch.device) -> None:
        self._events: list[torch.cuda.Event] = []
        self._on_gpu = device.type == "cuda"

    def wait(self) -> None:
        """Wait until the step before the one just queued is done."""
        if not self._on_gpu:
            return
        event = torch.cuda.Event()
        event.record()
        self._events.append(event)
        if len(self._events) > 1:
            self._events.pop(0).synchronize()
