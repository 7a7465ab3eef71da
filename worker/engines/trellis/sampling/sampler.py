"""Sample a rectified flow with Euler steps along the guided velocity (flow matching, arXiv:2210.02747).

Guidance is classifier-free (arXiv:2207.12598), applied within an interval of times only (arXiv:2404.07724), with the
rescale of arXiv:2305.08891, section 3.4.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.models.transformer_block import Context, Phases

# Called before each step with the share of completed steps (0-1); what it raises passes through.
OnStep = Callable[[float], None]


class Velocity(Protocol):
    """A model with everything bound that stays constant during a stage: the image, the tokens."""

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """Return the conditional velocity of x and, if `guided`, the unconditional one: [1 or 2, tokens, channels]."""


# Up to this many tokens a guided step computes both velocities in one batch, which fills the GPU better. With more
# tokens one after the other is as fast, in half the memory.
BATCHED_TOKENS = 6_144


@dataclass(frozen=True, slots=True)
class Step:
    """An Euler step from `time` to `until` (1 is noise, 0 is the sample). guided: whether guidance applies."""

    time: float
    until: float
    guided: bool


def steps(count: int, rescale_t: float, guidance_interval: tuple[float, float]) -> list[Step]:
    """Schedule `count` Euler steps from 1 to 0, shifted towards the noise: t' = r t / (1 + (r - 1) t), r = `rescale_t`.

    Computed in float64 in exactly this order: with r = 3 and 12 steps one time differs from 0.6 in its last bit only,
    and 0.6 is where the published guidance interval begins.
    """
    even = np.linspace(1, 0, count + 1)
    times = (rescale_t * even / (1 + (rescale_t - 1) * even)).tolist()
    first, last = guidance_interval
    return [Step(t, until, first <= t <= last) for t, until in itertools.pairwise(times)]


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance.

    strength: 1 means the conditional velocity alone. rescale: 0-1, the share of the guided sample that is scaled back
    to the conditional one's deviation. sigma_min: the noise left in a sample, a constant of the trained flow.
    """

    strength: float
    rescale: float
    sigma_min: float

    def combine(self, x: Tensor, time: float, velocities: Tensor) -> Tensor:
        """Return the guided velocity of x [tokens, channels] from [2, tokens, channels]: conditional, unconditional."""
        conditional, unconditional = velocities.unbind(0)
        guided = self.strength * conditional + (1 - self.strength) * unconditional
        if self.rescale <= 0:
            return guided
        # Both samples that the velocities predict, and their ratio of standard deviations.
        sigma = self.sigma_min + (1 - self.sigma_min) * time
        noisy = (1 - self.sigma_min) * x
        sample = noisy - sigma * guided
        ratio = (noisy - sigma * conditional).std() / sample.std()
        sample = self.rescale * (sample * ratio) + (1 - self.rescale) * sample
        return (noisy - sample) / sigma


@dataclass(frozen=True, slots=True)
class ConditionedFlow:
    """A model bound to one set of tokens and one image.

    concatenated: float32 [tokens, channels] that each step appends to the latents (the shape, while texturing).
    """

    model: FlowTransformer
    phases: Phases
    contexts: Sequence[Context]
    concatenated: Tensor | None = None

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        """Return the velocities of x."""
        inputs = x if self.concatenated is None else torch.cat((x, self.concatenated), dim=-1)
        if guided and len(x) <= BATCHED_TOKENS:
            return self.model.velocities(inputs, modulation, self.phases, self.contexts, branches=2)
        velocities = self.model.velocities(inputs, modulation, self.phases, self.contexts, branches=1)
        if not guided:
            return velocities
        unconditional = self.model.velocities(inputs, modulation, self.phases, self.model.no_contexts(), branches=1)
        return torch.cat((velocities, unconditional))


def sample(
    model: FlowTransformer,
    velocity: Velocity,
    noise: Tensor,
    schedule: Sequence[Step],
    guidance: Guidance,
    on_step: OnStep = lambda _: None,
) -> Tensor:
    """Integrate noise, float32 [tokens, channels], along the schedule to a sample."""
    x = noise
    timer = StepTimer(x.device)
    for i, step in enumerate(schedule):
        on_step(i / len(schedule))
        x = x - (step.time - step.until) * _guided(velocity, x, model.modulation(step.time), step, guidance)
        timer.wait()
    return x


def _guided(velocity: Velocity, x: Tensor, modulation: Tensor, step: Step, guidance: Guidance) -> Tensor:
    if not step.guided or guidance.strength == 1:
        return velocity(x, modulation, guided=False)[0]
    velocities = velocity(x, modulation, guided=True)
    if guidance.strength == 0:
        return velocities[1]
    return guidance.combine(x, step.time, velocities)


class StepTimer:
    """Keep the host one step ahead of the GPU: the GPU is never idle, and a cancel takes effect within a step."""

    def __init__(self, device: torch.device) -> None:
        self._events: list[torch.cuda.Event] = []
        self._on_gpu = device.type == "cuda"

    def wait(self) -> None:
        """Wait until the GPU has finished the step before the latest one."""
        if not self._on_gpu:
            return
        event = torch.cuda.Event()
        event.record()
        self._events.append(event)
        if len(self._events) > 1:
            self._events.pop(0).synchronize()
