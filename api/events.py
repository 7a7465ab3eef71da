"""Events: a job followed live, as a stream of its snapshots (Server-Sent Events)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from api.call import Call, Reading
from api.jobs import JobId
from shared.errors import JobNotFound
from shared.records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
RECONNECT_MS = 2_000


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def follow_job(
    call: Reading,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(description="The last `id` seen: only what is newer comes.")] = None,
) -> Response:
    """Follow a job: an event `job` with its whole body at each change, until it has ended."""
    found = await call.run(call.own, job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 10 else 0
    if found.job.status.is_terminal and found.job.version <= seen:
        return Response(status_code=204)  # tells an EventSource not to come back
    stream = _snapshots(call, found, seen)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _snapshots(call: Call, current: Versioned, seen: int) -> AsyncIterator[bytes]:
    deps = call.gateway.deps
    sent_at = deps.monotonic()
    yield b"retry: %d\n\n" % RECONNECT_MS
    while True:
        job = current.job
        if job.version > seen:
            snapshot = await call.run(call.view, job)
            yield b"id: %d\nevent: job\ndata: %b\n\n" % (job.version, snapshot.content)
            seen, sent_at = job.version, deps.monotonic()
        if job.status.is_terminal:
            return
        if deps.monotonic() - sent_at >= KEEP_ALIVE_S:
            yield b": still there\n\n"
            sent_at = deps.monotonic()
        await deps.sleep(LOOK_S)
        try:
            current = await call.run(call.own, job.id)
        except JobNotFound:  # deleted meanwhile
            return
