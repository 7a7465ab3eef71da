"""What a job's body comes to in words."""

from trellis2_modal.cli.commands.jobs import describe
from trellis2_modal.types.job import Job, SamplingResult

BODY = {
    "id": "job_1",
    "status": "succeeded",
    "created_at": "2026-01-05T09:30:00Z",
    "seed": 7,
    "sampled": {"seed": 9, "pipeline_type": "512", "resolution": 512, "later_field": 1},
}


def test_what_the_sampler_made_of_the_wishes_is_told() -> None:
    """Fields of a later service are passed over."""
    job = Job.from_wire(BODY)
    assert SamplingResult(seed=9, pipeline_type="512", resolution=512) == job.sampled
    assert "sampled   512, 512 voxels a side, with seed 9" in describe(job).splitlines()


def test_engine_that_does_not_sample_tells_nothing() -> None:
    """No line, no field."""
    job = Job.from_wire(BODY | {"sampled": None})
    assert job.sampled is None
    assert "sampled" not in describe(job)
