"""When the sampler looks: its times, and which of them are guided."""

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Step:
    """From `time` to `until` (1 is noise, 0 is the sample). guided: whether guidance applies."""

    time: float
    until: float
    guided: bool


def steps(count: int, rescale_t: float, guidance_interval: tuple[float, float]) -> list[Step]:
    """`count` Euler steps from 1 to 0, shifted towards the noise by `rescale_t`.

    The arithmetic is done in float64 in this very order: with rescale_t 3 and 12 steps one time is 0.6 but for its last
    bit, and 0.6 is where the published guidance interval begins.
    """
    even = np.linspace(1, 0, count + 1)
    times = (rescale_t * even / (1 + (rescale_t - 1) * even)).tolist()
    first, last = guidance_interval
    return [Step(t, until, first <= t <= last) for t, until in itertools.pairwise(times)]
