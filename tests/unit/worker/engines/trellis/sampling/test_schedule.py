"""The sampler's times, and which of them are guided."""

import pytest

from worker.engines.trellis.sampling.schedule import steps


def test_schedule_goes_from_noise_to_sample_without_a_gap() -> None:
    """Each step begins where the one before ended."""
    schedule = steps(12, 5.0, (0.6, 1.0))
    assert (1.0, 0.0) == (schedule[0].time, schedule[-1].until)
    assert [step.until for step in schedule[:-1]] == [step.time for step in schedule[1:]]


def test_rescaling_shifts_the_times_towards_the_noise() -> None:
    """t' = r t / (1 + (r - 1) t); half way becomes r / (r + 1)."""
    assert steps(2, 1.0, (0, 1))[1].time == 0.5
    assert steps(2, 3.0, (0, 1))[1].time == 0.75
    assert steps(2, 5.0, (0, 1))[1].time == pytest.approx(5 / 6, abs=1e-15)


@pytest.mark.parametrize(("rescale_t", "guided"), [(5.0, 10), (3.0, 9), (1.0, 5)])
def test_guided_steps_are_those_whose_time_lies_in_the_interval(rescale_t: float, guided: int) -> None:
    """Both ends included: with 12 steps shifted by 3, the ninth is at 0.6 and still guided."""
    schedule = steps(12, rescale_t, (0.6, 1.0))
    assert [True] * guided + [False] * (12 - guided) == [step.guided for step in schedule]


def test_interval_may_end_below_the_noise() -> None:
    """The first steps are then unguided."""
    assert [False, True, True, False] == [step.guided for step in steps(4, 1.0, (0.5, 0.9))]
