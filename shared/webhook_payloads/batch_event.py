"""The body of a batch's webhook: its status, and its rows by status."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from shared.domain.batch import Batch, BatchError, BatchStatus, StopReason
from shared.repositories.batch_row_status import RowStatuses, counted
from shared.repositories.outbox import Event


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
        counts=CountsPayload(**{name: getattr(counts, name) for name in CountsPayload.model_fields}),
        stop_reason=batch.stop,
        gpu_seconds=counts.gpu_seconds,
        cost_usd=counts.cost_usd,
        estimated_cost_usd=batch.estimate.cost_usd if batch.estimate else None,
        created_at=batch.created_at,
        finished_at=batch.finished_at,
        metadata=batch.metadata if len(str(batch.metadata)) < 10_000 else None,
        error=batch.error,
    )
