"""Events: a job followed live, as a stream of its snapshots (Server-Sent Events)."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from api import answers
from api.auth import Caller, Reader
from api.deps import Gateway, TheGateway
from api.jobs import JobId, own
from shared.errors import JobNotFound
from shared.records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
RECONNECT_MS = 2_000


@router.get("/{job_id}/events")
async def follow_job(
    request: Request,
    gateway: TheGateway,
    caller: Reader,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(description="The last `id` seen: only what is newer comes.")] = None,
) -> Response:
    """Follow a job: an event `job` with its whole body at each change, until it has ended."""
    found = await gateway.run(own, gateway, caller, job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isdigit() and len(last_event_id) < 10 else 0
    if found.job.status.is_terminal and found.job.version <= seen:
        return Response(status_code=204)  # tells an EventSource not to come back
    stream = _snapshots(gateway, caller, answers.base_url(request, gateway), found, seen)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _snapshots(
    gateway: Gateway, caller: Caller, base: str, current: Versioned, seen: int
) -> AsyncIterator[bytes]:
    sent_at = gateway.deps.monotonic()
    yield b"retry: %d\n\n" % RECONNECT_MS
    while True:
        job = current.job
        if job.version > seen:
            view = await gateway.run(answers.view, job, gateway, base)
            yield b"id: %d\nevent: job\ndata: %b\n\n" % (job.version, view.content)
            seen, sent_at = job.version, gateway.deps.monotonic()
        if job.status.is_terminal:
            return
        if gateway.deps.monotonic() - sent_at >= KEEP_ALIVE_S:
            yield b": still there\n\n"
            sent_at = gateway.deps.monotonic()
        await gateway.deps.sleep(LOOK_S)
        try:
            current = await gateway.run(own, gateway, caller, job.id)
        except JobNotFound:  # deleted meanwhile
            return
