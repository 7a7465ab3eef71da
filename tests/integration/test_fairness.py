"""A catalog and another caller's single images, simulated on a virtual clock with the service's queue."""

import pytest

from bench.fleet.simulation import Day, Simulation

BURSTS = ((0.2, 100), (0.6, 100))  # standard jobs of a third caller


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize(("sample_s", "extract_s"), [(30.0, 15.0), (30.0, 3.0), (10.0, 40.0)])
def test_fault_24_an_interactive_job_waits_one_jobs_length_and_5_s_at_most(
    workers: int, sample_s: float, extract_s: float
) -> None:
    """With a batch of 10,000 rows on a warm fleet, whether sampling or extraction takes longer."""
    day = Day(length_s=2 * 3_600, catalog_at_h=0.0, bursts=BURSTS, sample_s=sample_s, extract_s=extract_s, window=64)
    waits = Simulation(day, workers).run().catalog_waits
    assert len(waits) > 50
    assert max(waits) <= sample_s + extract_s + 5
