"""What a batch will need: by what such jobs of the same caller have needed, else by figures that were measured."""

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from shared.domain.batch import Batch, BatchEstimate
from shared.domain.job import Job, Status
from shared.repositories.batch_rows import Row, read_rows
from shared.repositories.jobs import JobRepository
from shared.storage.ports import ObjectStore

Kind = tuple[str, str]  # engine, pipeline_type
SAMPLES = 20  # ended jobs of a kind that are gone by

# Seconds of a GPU (A100-80GB), then of a worker in all, until the first job of a kind has been seen to end.
_FIRST_GUESSES: dict[Kind, tuple[float, float]] = {
    ("trellis", "512"): (10.0, 25.0),
    ("trellis", "1024"): (30.0, 60.0),
    ("trellis", "1024_cascade"): (30.0, 60.0),
    ("trellis", "1536_cascade"): (90.0, 130.0),
}
_RELIEF = (0.0, 3.0)


@dataclass(frozen=True, slots=True)
class JobCost:
    """What one job of a kind needs; measured: of how many this is the mean."""

    gpu_seconds: float
    cost_usd: float
    seconds: float
    measured: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """What a worker costs while nothing is measured, and how many jobs run at once. has_gpu: seconds of a GPU count."""

    usd_per_s: float = 0.0
    has_gpu: bool = False
    parallel_jobs: int = 1


def estimate_batch(store: ObjectStore, jobs: JobRepository, batch: Batch, prices: Prices) -> BatchEstimate:
    """Estimate what all rows that may run will need."""
    kinds = Counter(kind_of(row) for row in read_rows(store, batch, 0, batch.planned) if row.may_run)
    needs = {kind: job_cost_of(jobs, batch.caller, kind, prices) for kind in kinds}
    return BatchEstimate(
        gpu_seconds=round(sum(needs[kind].gpu_seconds * count for kind, count in kinds.items()), 1),
        cost_usd=round(sum(needs[kind].cost_usd * count for kind, count in kinds.items()), 4),
        seconds=round(sum(needs[kind].seconds * count for kind, count in kinds.items()) / prices.parallel_jobs, 1),
        measured_jobs=sum(need.measured for need in needs.values()),
    )


def job_cost_of(jobs: JobRepository, caller: str, kind: Kind, prices: Prices) -> JobCost:
    """Estimate the cost of a job of a kind by the caller's newest successful ones, or by a first guess."""

    def is_alike(job: Job) -> bool:
        alike = (job.engine, job.parameters.pipeline_type) == kind and job.input.state is None
        return alike and job.status is Status.SUCCEEDED and bool(job.timings)

    seen = jobs.list(caller, limit=SAMPLES, matches=is_alike).jobs
    if seen:
        return JobCost(
            fmean(job.gpu_seconds for job in seen),
            fmean(job.cost_usd for job in seen),
            fmean(sum(job.timings.values()) for job in seen),
            len(seen),
        )
    gpu_seconds, seconds = _FIRST_GUESSES.get(kind, _RELIEF)
    charged_s = gpu_seconds if prices.has_gpu else seconds
    return JobCost(gpu_seconds if prices.has_gpu else 0.0, charged_s * prices.usd_per_s, seconds)


def kind_of(row: Row) -> Kind:
    """Return the kind of job whose costs are comparable with a row's."""
    return row.engine, str(row.given.get("pipeline_type", "1024_cascade"))
