"""The description of a job."""

from trellis2_modal.cli.commands.jobs import describe
from trellis2_modal.types.job import Job, SamplingResult

BODY = {
    "id": "job_1",
    "status": "succeeded",
    "created_at": "2026-01-05T09:30:00Z",
    "seed": 7,
    "sampled": {"seed": 9, "pipeline_type": "512", "resolution": 512, "later_field": 1},
}


def test_sampling_result_is_described() -> None:
    """Unknown fields of a later service are ignored."""
    job = Job.from_json(BODY)
    assert SamplingResult(seed=9, pipeline_type="512", resolution=512) == job.sampled
    assert "sampled   512, 512 voxels a side, with seed 9" in describe(job).splitlines()


def test_engine_without_sampler_has_no_sampling_result() -> None:
    """And no line in the description."""
    job = Job.from_json(BODY | {"sampled": None})
    assert job.sampled is None
    assert "sampled" not in describe(job)
