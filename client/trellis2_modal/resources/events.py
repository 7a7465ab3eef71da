"""Following a job: by server-sent events where the service offers them, by conditional polling where not."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from trellis2_modal._http import Connection, Request
from trellis2_modal._sse import EventReader, ServerEvent
from trellis2_modal.errors import ApiError, NoStream, NotReachable
from trellis2_modal.types.job import Job

POLL_WAIT_S = 2
POLL_PAUSE_S = 0.5
# Longer than the 15 s between two keep-alive comments: silence beyond this is a dead connection.
SILENCE_S = 40.0
STREAM_TRIES = 3


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job. `id` goes on after it (`stream(last_event_id=...)`), in another process as well.

    type: `queued`, `started`, `progress`, `preview`, `succeeded`, `failed`, `canceled` or `expired`. job: as it was
    then. preview: of a `preview`, a small WebP as a data URL.
    """

    id: str
    type: str
    job: Job
    preview: str | None = None


class _AllTold(Exception):
    """The job has ended, and its last event was seen."""


async def stream(connection: Connection, job_id: str, last_id: str = "") -> AsyncGenerator[JobEvent, None]:
    """The events of a job after `last_id`, to its end; a stream that breaks is taken up where it ended.

    A job that was retried has ended before, and goes on after that event: the stream is over where the service closes
    it after an end.

    Raises:
        NoStream: there is none, or it broke STREAM_TRIES times without an event between them.
        ApiError, NotReachable: it cannot be asked for.
    """
    failures, has_ended = 0, False
    while failures < STREAM_TRIES:
        try:
            async with aclosing(_events(connection, job_id, last_id)) as events:
                async for event in events:
                    failures, last_id = 0, event.id or last_id
                    told = await _told(connection, job_id, event)
                    has_ended = told.job.status.is_terminal
                    yield told
            if has_ended:
                return
        except _AllTold:
            return
        except httpx.TransportError:
            pass
        failures += 1
        await connection.wire.pause(float(failures))
    raise NoStream(f"the stream of {job_id} broke off {STREAM_TRIES} times and said nothing in between")


async def follow(connection: Connection, job: Job) -> AsyncGenerator[Job, None]:
    """Snapshots of a job, the given one first, then one for every change, the last one terminal.

    Where no stream is to be had, the job is polled.

    Raises:
        NotReachable, ApiError: polling found no way either.
    """
    yield job
    for source in (_streamed, _polled):
        if job.status.is_terminal:
            return
        async with aclosing(source(connection, job.id)) as snapshots:
            async for snapshot in snapshots:
                if snapshot != job:
                    job = snapshot
                    yield job


async def _streamed(connection: Connection, job_id: str) -> AsyncGenerator[Job, None]:
    """Snapshots from the event stream until the job has ended, or until streaming is given up.

    The stream begins in the past. An end that something comes after was that of a job that was retried: it is left out,
    since whoever sees it takes it for the last word.
    """
    end: Job | None = None
    try:
        async with aclosing(stream(connection, job_id)) as events:
            async for event in events:
                end = event.job if event.job.status.is_terminal else None
                if end is None:
                    yield event.job
        if end:
            yield end
    except (NoStream, ApiError, NotReachable):
        return


async def _events(connection: Connection, job_id: str, last_id: str) -> AsyncGenerator[ServerEvent, None]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    call = Request("GET", f"v1/jobs/{job_id}/events", headers=headers, read_timeout_s=SILENCE_S)
    reader = EventReader()
    async with connection.stream(call) as answer:
        if answer.status == 204 and last_id:
            raise _AllTold
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise NoStream("what answers does not stream")
        async for chunk in answer.chunks:
            for event in reader.feed(chunk):
                yield event


async def _told(connection: Connection, job_id: str, event: ServerEvent) -> JobEvent:
    """What an event carries; one that carries no job says at least that there is news."""
    try:
        job = Job.from_wire(json.loads(event.data))
    except (ValueError, KeyError, TypeError):
        job = await connection.ask(Request("GET", f"v1/jobs/{job_id}"), Job.from_wire)
    return JobEvent(event.id, event.name, job, job.raw.get("preview"))


async def _polled(connection: Connection, job_id: str) -> AsyncGenerator[Job, None]:
    """Snapshots by asking again and again; an unchanged job costs one 304."""
    etag = ""
    while True:
        wait = {"wait": str(POLL_WAIT_S)} if etag else {}
        seen = {"If-None-Match": etag} if etag else {}
        response = await connection.send(Request("GET", f"v1/jobs/{job_id}", query=wait, headers=seen))
        etag = response.headers.get("ETag", "")
        if response.status_code == 200:
            job = Job.from_wire(response.json())
            yield job
            if job.status.is_terminal:
                return
        await connection.wire.pause(POLL_PAUSE_S)
