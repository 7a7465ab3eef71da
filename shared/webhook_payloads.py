"""The bodies of webhooks: an event, and the job or the batch that it is about, small enough for any receiver."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from shared.domain.batch import Batch, BatchError, BatchStatus, StopReason
from shared.domain.job import PROGRESS_EVENT, Job, Status
from shared.domain.job_schema import JobBody, job_body, job_url
from shared.repositories.batch_row_status import RowStatuses, counted
from shared.repositories.outbox import Event

MAX_BODY_BYTES = 20_000


class JobReference(BaseModel):
    """A job by id, where the event cannot hold it: it was retried since, its JSON exceeds 20 kB, or this is a test."""

    id: Annotated[str | None, Field(description="Null in a test.")]
    custom_id: str | None = None
    batch_id: str | None = None
    status: Annotated[Status | None, Field(description="At the time of the event; null in a test.")]
    status_url: Annotated[str | None, Field(description="A path where the service does not know its public URL.")]


class JobEventPayload(BaseModel):
    """The body of a webhook. `timestamp` is when it happened; when it was sent is in the header `webhook-timestamp`."""

    type: str
    timestamp: datetime
    data: JobBody | JobReference


def job_body_of(event: Event, job: Job | None, base_url: str) -> bytes:
    """Build the body for the end of a job: the same bytes at every try, unless the job is purged or retried meanwhile.

    Args:
        event: what happened.
        job: the record as it is now; one that was retried since says nothing about this event.
        base_url: where callers reach the service, without a slash at its end; empty where that is not known.
    """
    status = Status(event.type.removeprefix("job.")) if event.job_id else None
    reference = _reference(event.job_id, status, job, base_url)
    is_same_run = job is not None and job.run_number == event.run_number and job.status.is_terminal
    data = job_body(job, base_url) if job is not None and is_same_run else reference
    return _encode(event.type, event.occurred_at, data, reference)


def progress_body_of(job: Job, at: datetime, base_url: str) -> bytes:
    """Build the body that reports the progress of a running job; `base_url` as above."""
    return _encode(PROGRESS_EVENT, at, job_body(job, base_url), _reference(job.id, job.status, job, base_url))


def _reference(job_id: str | None, status: Status | None, job: Job | None, base_url: str) -> JobReference:
    return JobReference(
        id=job_id,
        custom_id=job.custom_id if job else None,
        batch_id=job.batch_id if job else None,
        status=status,
        status_url=job_url(job_id, base_url) if job_id else None,
    )


def _encode(event_type: str, at: datetime, data: JobBody | JobReference, reference: JobReference) -> bytes:
    body = JobEventPayload(type=event_type, timestamp=at, data=data).model_dump_json().encode()
    if len(body) < MAX_BODY_BYTES:
        return body
    return JobEventPayload(type=event_type, timestamp=at, data=reference).model_dump_json().encode()


class CountsPayload(BaseModel):
    """How many rows stand how; the last six sum to `total`."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    skipped: int


class BatchPayload(BaseModel):
    """The batch as it was when this happened; null where it was retried since."""

    id: str | None
    status: BatchStatus
    status_url: Annotated[str | None, Field(description="A path where the service does not know its public URL.")]
    counts: CountsPayload | None = None
    stop_reason: StopReason | None = None
    gpu_seconds: float | None = None
    cost_usd: float | None = None
    estimated_cost_usd: Annotated[float | None, Field(description="Of the rows that are to run.")] = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: dict[str, str] | None = None
    error: BatchError | None = None


class BatchEventPayload(BaseModel):
    """The body of a batch's webhook."""

    type: str
    timestamp: datetime
    data: BatchPayload


def batch_body_of(event: Event, batch: Batch | None, base_url: str) -> bytes:
    """Build the body of an event; the same bytes at every attempt, unless the batch is confirmed or retried meanwhile.

    base_url: where callers reach the service, without a slash at its end; empty where that is not known.
    """
    data = _data(event, batch, f"{base_url}/v1/batches/{event.batch_id}")
    return BatchEventPayload(type=event.type, timestamp=event.occurred_at, data=data).model_dump_json().encode()


def _data(event: Event, batch: Batch | None, url: str) -> BatchPayload:
    status = BatchStatus(event.type.removeprefix("batch."))
    if batch is None or batch.status is not status or batch.run_number != event.run_number:
        return BatchPayload(id=event.batch_id, status=status, status_url=url)
    counts = counted(batch, RowStatuses())  # no row runs in any status that is announced
    return BatchPayload(
        id=batch.id,
        status=status,
        status_url=url,
        counts=CountsPayload.model_validate(counts, from_attributes=True),
        stop_reason=batch.stop,
        gpu_seconds=counts.gpu_seconds,
        cost_usd=counts.cost_usd,
        estimated_cost_usd=batch.estimate.cost_usd if batch.estimate else None,
        created_at=batch.created_at,
        finished_at=batch.finished_at,
        metadata=batch.metadata if len(str(batch.metadata)) < 10_000 else None,
        error=batch.error,
    )
