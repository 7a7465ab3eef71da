"""What a webhook says: an event and the job as it ended, small enough for any receiver."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from shared.domain.job import PROGRESS_EVENT, Job, JobError, Stage, Status
from shared.repositories.outbox import Event

MAX_BODY_BYTES = 20_000


class ArtifactPayload(BaseModel):
    """One result, and where to fetch it with an API key."""

    url: str
    bytes: int
    sha256: str
    content_type: str


class JobPayload(BaseModel):
    """The job as it ended, or as it gets on; what an erased or retried one no longer says is null."""

    id: str | None
    status: Annotated[Status | None, Field(description="Null in a test.")]
    status_url: Annotated[str | None, Field(description="A path where the service does not know its public URL.")]
    custom_id: str | None = None
    batch_id: str | None = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Null where it would not fit into 20 kB: read the job.")
    ] = None
    stage: Annotated[Stage | None, Field(description="Only while it runs.")] = None
    progress: Annotated[float | None, Field(description="0 to 1, of the whole job.")] = None
    attempt: Annotated[int | None, Field(description="How often a worker has started it.")] = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    engine: str | None = None
    seed: int | None = None
    artifacts: dict[str, ArtifactPayload] = Field(default_factory=dict)
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    error: JobError | None = None


class JobEventPayload(BaseModel):
    """The body of a webhook. `timestamp` is when it happened; when it was sent is in the header `webhook-timestamp`."""

    type: str
    timestamp: datetime
    data: JobPayload


def body_of(event: Event, job: Job | None, base_url: str) -> bytes:
    """The body for an event; the same bytes at every try, as long as nobody erases or retries the job.

    job: its record; one that has moved on to another round says nothing about this one. base_url: where callers reach
    the service, without a slash at its end; empty where that is not known.
    """
    return _bounded(JobEventPayload(type=event.type, timestamp=event.occurred_at, data=_data(event, job, base_url)))


def progress_body_of(job: Job, at: datetime, base_url: str) -> bytes:
    """The body that tells how a running job gets on; `base_url` as above."""
    data = _as_it_stands(job, f"{base_url}/v1/jobs/{job.id}").model_copy(update={"stage": job.stage})
    return _bounded(JobEventPayload(type=PROGRESS_EVENT, timestamp=at, data=data))


def _bounded(told: JobEventPayload) -> bytes:
    body = told.model_dump_json().encode()
    if len(body) < MAX_BODY_BYTES:
        return body
    shorter = told.data.model_copy(update={"metadata": None})
    return told.model_copy(update={"data": shorter}).model_dump_json().encode()


def _data(event: Event, job: Job | None, base_url: str) -> JobPayload:
    url = f"{base_url}/v1/jobs/{event.job_id}" if event.job_id else None
    status = Status(event.type.removeprefix("job.")) if event.job_id else None
    if job is None or job.run_number != event.round or not job.status.is_terminal:
        return JobPayload(id=event.job_id, status=status, status_url=url)
    return _as_it_stands(job, url)


def _as_it_stands(job: Job, url: str | None) -> JobPayload:
    artifacts = {
        name: ArtifactPayload(
            url=f"{url}/artifacts/{name}", bytes=made.bytes, sha256=made.sha256, content_type=made.content_type
        )
        for name, made in job.artifacts.items()
    }
    return JobPayload(
        id=job.id,
        status=job.status,
        status_url=url,
        custom_id=job.custom_id,
        batch_id=job.batch_id,
        metadata=job.metadata,
        progress=job.progress,
        attempt=job.attempt,
        created_at=job.created_at,
        finished_at=job.finished_at,
        engine=job.engine,
        seed=job.parameters.seed,
        artifacts=artifacts,
        gpu_seconds=job.gpu_seconds,
        cost_usd=job.cost_usd,
        error=job.error,
    )
