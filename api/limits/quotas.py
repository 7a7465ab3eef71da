"""What one caller may ask of the service: how fast, how much at once, how much a day."""

from typing import Annotated

from pydantic import Field

from shared.domain.job import Record


class CallerLimits(Record):
    """Limits that an API key carries; None is no limit.

    requests_per_s, burst: a token bucket in each gateway process; `burst` requests may come at once. unfinished_jobs:
    how many jobs may be queued or running. running_jobs: how many of those may run at once; the others stay queued, and
    hold up nobody else's. gpu_seconds_per_day, usd_per_day: what may be used by jobs that have
    succeeded since midnight UTC, looked at before a new one is accepted. keep_days: how long a job with its picture and
    its results is kept after its end.
    """

    requests_per_s: Annotated[float | None, Field(gt=0)] = 20.0
    burst: Annotated[int, Field(ge=1)] = 100
    unfinished_jobs: Annotated[int | None, Field(ge=0)] = 1_000
    running_jobs: Annotated[int | None, Field(ge=1, le=1_000)] = None
    gpu_seconds_per_day: Annotated[float | None, Field(ge=0)] = None
    usd_per_day: Annotated[float | None, Field(ge=0)] = None
    keep_days: Annotated[float | None, Field(gt=0, le=36_500)] = None

    @property
    def keep_s(self) -> float | None:
        """The same in seconds."""
        return None if self.keep_days is None else self.keep_days * 86_400


UNLIMITED = CallerLimits(requests_per_s=None, unfinished_jobs=None)
