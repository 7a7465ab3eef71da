"""The Euler sampler with guidance."""

import statistics

import pytest
import torch
from torch import Tensor

from tests.unit.worker.engines.trellis import plain_flow, tiny
from worker.engines.trellis.models.flow_transformer import FlowTransformer
from worker.engines.trellis.sampling import sampler
from worker.engines.trellis.sampling.sampler import ConditionedFlow, Guidance, Step, sample, steps

SIGMA_MIN = 1e-5


def _plain_guidance(x: Tensor, time: float, pair: tuple[Tensor, Tensor], strength: float, rescale: float) -> Tensor:
    """The two papers' formulas: guide, then shrink the predicted sample to the deviation of the unguided one."""
    guided = strength * pair[0] + (1 - strength) * pair[1]
    sigma = SIGMA_MIN + (1 - SIGMA_MIN) * time
    seen, sample_ = ((1 - SIGMA_MIN) * x - sigma * velocity for velocity in (pair[0], guided))
    factor = statistics.pstdev(seen.flatten().tolist()) / statistics.pstdev(sample_.flatten().tolist())
    sample_ = rescale * sample_ * factor + (1 - rescale) * sample_
    return ((1 - SIGMA_MIN) * x - sample_) / sigma


@pytest.mark.parametrize("rescale", [0.0, 0.5, 1.0])
def test_guidance_equals_its_formula(rescale: float) -> None:
    """Whether a deviation divides by n or n - 1 does not matter: only their ratio counts."""
    x, with_image, without = torch.randn(3, 30, 8, generator=torch.Generator().manual_seed(3)).double()
    expected = _plain_guidance(x, 0.7, (with_image, without), 7.5, rescale)
    guidance = Guidance(7.5, rescale, SIGMA_MIN)
    torch.testing.assert_close(guidance.combine(x, 0.7, torch.stack((with_image, without))), expected)


def test_sample_follows_the_guided_velocity() -> None:
    """Twelve steps of the tiny model equal twelve plain steps, to 1e-5."""
    generator = torch.Generator().manual_seed(5)
    tensors = tiny.flow_tensors(in_channels=14)
    coords = torch.randint(0, 32, (23, 3), generator=generator)
    noise, concatenated = torch.randn(23, 8, generator=generator), torch.randn(23, 6, generator=generator)
    image = torch.randn(11, tiny.FEATURES, generator=generator)
    model = FlowTransformer.of(tiny.ARGS | {"in_channels": 14}, tensors)
    schedule = steps(12, 3.0, (0.6, 1.0))
    flow = ConditionedFlow(model, model.phases(coords), model.contexts(image), concatenated)
    actual = sample(model, flow, noise, schedule, Guidance(7.5, 0.5, SIGMA_MIN))
    x = noise.double()
    for step in schedule:
        pair = tuple(
            plain_flow.velocity(tensors, torch.cat((x, concatenated), dim=1), step.time, coords, seen)
            for seen in (image, torch.zeros_like(image))
        )
        velocity = _plain_guidance(x, step.time, (pair[0], pair[1]), 7.5, 0.5) if step.guided else pair[0]
        x = x - (step.time - step.until) * velocity
    assert float((actual - x).norm() / x.norm()) < 1e-5


class _Constant:
    """A velocity of 1 with the image and of 3 without it; keeps whether it was asked for both."""

    def __init__(self) -> None:
        self.guided: list[bool] = []

    def __call__(self, x: Tensor, _modulation: Tensor, *, guided: bool) -> Tensor:
        self.guided.append(guided)
        return torch.stack([torch.full_like(x, value) for value in ((1.0, 3.0) if guided else (1.0,))])


@pytest.mark.parametrize(("strength", "velocity", "asked"), [(1.0, 1.0, False), (0.0, 3.0, True), (2.0, -1.0, True)])
def test_strength_decides_what_is_computed(strength: float, velocity: float, asked: bool) -> None:
    """1 follows the image alone, and then the other velocity is never computed; 0 ignores the image."""
    constant = _Constant()
    model = FlowTransformer.of(tiny.ARGS, tiny.flow_tensors())
    noise = torch.zeros(5, 8)
    end = sample(model, constant, noise, [Step(1.0, 0.5, guided=True)], Guidance(strength, 0.0, SIGMA_MIN))
    assert [asked] == constant.guided
    torch.testing.assert_close(end, torch.full((5, 8), -0.5 * velocity))


def test_many_tokens_part_the_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the two velocities come one after the other, and are the same."""
    generator = torch.Generator().manual_seed(5)
    model = FlowTransformer.of(tiny.ARGS, tiny.flow_tensors())
    coords, noise = torch.randint(0, 32, (23, 3), generator=generator), torch.randn(23, 8, generator=generator)
    flow = ConditionedFlow(
        model, model.phases(coords), model.contexts(torch.randn(11, tiny.FEATURES, generator=generator))
    )
    together = flow(noise, model.modulation(0.9), guided=True)
    monkeypatch.setattr(sampler, "BATCHED_TOKENS", 22)
    torch.testing.assert_close(flow(noise, model.modulation(0.9), guided=True), together)


def test_progress_is_told_before_each_step_and_may_stop_it() -> None:
    """What it raises ends the sampling before the step is computed."""
    constant, reports = _Constant(), []

    def on_step(done: float) -> None:
        reports.append(done)
        if done >= 0.5:
            raise KeyboardInterrupt

    model = FlowTransformer.of(tiny.ARGS, tiny.flow_tensors())
    with pytest.raises(KeyboardInterrupt):
        sample(model, constant, torch.zeros(5, 8), steps(4, 1.0, (2, 3)), Guidance(1, 0, SIGMA_MIN), on_step)
    assert [0.0, 0.25, 0.5] == reports
    assert len(constant.guided) == 2


def test_schedule_goes_from_noise_to_sample_without_a_gap() -> None:
    """Each step begins at the end of the previous one."""
    schedule = steps(12, 5.0, (0.6, 1.0))
    assert (1.0, 0.0) == (schedule[0].time, schedule[-1].until)
    assert [step.until for step in schedule[:-1]] == [step.time for step in schedule[1:]]


def test_rescaling_shifts_the_times_towards_the_noise() -> None:
    """t' = r t / (1 + (r - 1) t); halfway becomes r / (r + 1)."""
    assert steps(2, 1.0, (0, 1))[1].time == 0.5
    assert steps(2, 3.0, (0, 1))[1].time == 0.75
    assert steps(2, 5.0, (0, 1))[1].time == pytest.approx(5 / 6, abs=1e-15)


@pytest.mark.parametrize(("rescale_t", "guided"), [(5.0, 10), (3.0, 9), (1.0, 5)])
def test_guided_steps_are_those_in_the_interval(rescale_t: float, guided: int) -> None:
    """Both ends included: with 12 steps shifted by 3, the ninth is at 0.6 and still guided."""
    schedule = steps(12, rescale_t, (0.6, 1.0))
    assert [True] * guided + [False] * (12 - guided) == [step.guided for step in schedule]


def test_interval_may_end_below_the_noise() -> None:
    """The first steps are then unguided."""
    assert [False, True, True, False] == [step.guided for step in steps(4, 1.0, (0.5, 0.9))]
