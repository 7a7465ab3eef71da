"""A worker that cannot write what a job asks for says so before it spends anything on the job."""

import sys
from pathlib import Path
from typing import Any

import pytest

from infra.queues.memory import MemoryStore
from shared.domain.job import Stage
from shared.domain.parameters import resolve
from shared.errors import FormatUnavailable
from tests.support.fakes import HandClock, a_job
from tests.support.gateway_harness import public_egress
from worker.runner.pipeline import JobPipeline


class Untouched:
    """An engine that nobody may ask for anything."""

    name = "relief"

    def sample(self, *_: Any) -> Any:
        """Never."""
        raise AssertionError("sampled")

    decode = sample


@pytest.mark.parametrize("wanted", ["usdz", "meshopt"])
def test_a_format_that_is_not_there_ends_the_job_before_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str
) -> None:
    """Not retried: every attempt would end alike."""
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    clock = HandClock()
    seen: list[str] = []
    steps = JobPipeline(MemoryStore(clock), public_egress(), {"relief": Untouched()}, at=seen.append)
    job = a_job(clock(), parameters=resolve({"seed": 1, "formats": [wanted]}, "game"))
    with pytest.raises(FormatUnavailable, match=wanted):
        steps.run(job, _silent)
    assert (seen, FormatUnavailable.retryable) == ([], False)


def _silent(_stage: Stage, _fraction: float) -> None:
    """A progress that nobody hears."""
