"""Route of a job's events (Server-Sent Events), read from the log in its record."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from api.context.dependencies import ReadAccess, RequestContext
from api.http.responses import SerializedJob
from api.openapi.examples import jobs as examples
from api.openapi.responses import problems, success
from api.routers.jobs import JOB_ERRORS, JobId
from shared.domain.job import Job, JobEvent, Status
from shared.errors import JobNotFound
from shared.storage.versioned_records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MIN_POLL_S = 0.5  # after a change
MAX_POLL_S = 2.0  # without changes: hundreds of quiet streams must not load the store
POLL_GROWTH = 1.5
KEEP_ALIVE_S = 15.0
RECONNECT_MS = 2_000
STATUS_OF_EVENT = {"queued": Status.QUEUED} | dict.fromkeys(("started", "progress", "preview"), Status.RUNNING)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=success(200, "Events until the job has ended.", examples.EVENTS, media_type="text/event-stream")
    | success(204, "The client has seen the last event: do not reconnect.")
    | problems(*JOB_ERRORS),
)
async def follow_job(
    context: ReadAccess,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(description="The last `id` received: newer events follow.")] = None,
) -> Response:
    """Follow a job: `queued`, `started`, `progress`, `preview` and its end, each with the job at that time.

    A `preview` event has one more field, `preview`: a small image of the model so far, as a data URL.
    """
    current = await context.run(context.require_job, job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 10 else 0
    if current.record.status.is_terminal and current.record.version <= seen:
        return Response(status_code=204)  # an EventSource does not reconnect after 204
    stream = _event_stream(context, current, seen)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _event_stream(context: RequestContext, current: Versioned[Job], seen: int) -> AsyncIterator[bytes]:
    """Yield every event after `seen`; the log is in the record, so any gateway can continue a stream."""
    deps = context.services.deps
    sent_at, pause_s = deps.monotonic(), MIN_POLL_S
    yield b"retry: %d\n\n" % RECONNECT_MS
    while True:
        job = current.record
        for event in job.log:
            if event.version > seen:
                serialized = await context.run(context.serialize, job_at_event(job, event))
                yield b"id: %d\nevent: %b\ndata: %b\n\n" % (
                    event.version,
                    event.type.encode(),
                    _data(serialized, event),
                )
                seen, sent_at, pause_s = event.version, deps.monotonic(), MIN_POLL_S
        if job.status.is_terminal:
            return
        if deps.monotonic() - sent_at >= KEEP_ALIVE_S:
            yield b": still there\n\n"
            sent_at = deps.monotonic()
        await deps.sleep(pause_s)
        pause_s = min(pause_s * POLL_GROWTH, MAX_POLL_S)
        try:
            current = await context.run(context.require_job, job.id)
        except JobNotFound:  # deleted meanwhile
            return


def _data(serialized: SerializedJob, event: JobEvent) -> bytes:
    """Return the job as JSON, with the event's preview as one more field."""
    if event.preview is None:
        return serialized.content
    return serialized.content.removesuffix(b"}") + b',"preview":"data:image/webp;base64,%b"}' % event.preview.encode()


def job_at_event(job: Job, event: JobEvent) -> Job:
    """Return a job as it was at one of its events, without the results of its end."""
    if event.version == job.version:
        return job
    status = STATUS_OF_EVENT.get(event.type) or Status(event.type)
    return job.model_copy(
        update={
            "status": status,
            "version": event.version,
            "attempt": event.attempt,
            "stage": event.stage,
            "progress": event.progress,
            "started_at": job.started_at if event.attempt == job.attempt and status is not Status.QUEUED else None,
            "finished_at": None,
            "artifacts": {},
            "timings": {},
            "gpu_seconds": 0.0,
            "cost_usd": 0.0,
            "error": None,
        }
    )
