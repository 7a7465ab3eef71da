"""Follows a job: by server-sent events where the service offers them, else by conditional polling."""

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
# The service sends a keep-alive comment every 15 s: a longer silence is a dead connection.
SILENCE_S = 40.0
STREAM_TRIES = 3


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job. Pass `id` as `last_event_id` to `stream` to continue after it, also in another process.

    type: `queued`, `started`, `progress`, `preview`, `succeeded`, `failed`, `canceled` or `expired`. job: the record at
    that time. preview: a small WebP as a data URL, in `preview` events.
    """

    id: str
    type: str
    job: Job
    preview: str | None = None


class _StreamEnded(Exception):
    """The job has ended, and the service has no event after the last one read."""


async def stream_events(connection: Connection, job_id: str, last_id: str = "") -> AsyncGenerator[JobEvent, None]:
    """Iterate over the events of a job after `last_id` until its end; resume a stream that breaks off.

    A job that was retried has terminal events in its past, and its stream continues after them. So the stream is over
    only when the service closes it after a terminal event.

    Raises:
        NoStream: there is no stream, or it broke off STREAM_TRIES times without an event in between.
        ApiError, NotReachable: the request failed.
    """
    failures, has_ended = 0, False
    while failures < STREAM_TRIES:
        try:
            async with aclosing(_read_stream(connection, job_id, last_id)) as events:
                async for server_event in events:
                    failures, last_id = 0, server_event.id or last_id
                    event = await _parse_event(connection, job_id, server_event)
                    has_ended = event.job.status.is_terminal
                    yield event
            if has_ended:
                return
        except _StreamEnded:
            return
        except httpx.TransportError:
            pass
        failures += 1
        await connection.transport.pause(float(failures))
    raise NoStream(f"the stream of {job_id} broke off {STREAM_TRIES} times without an event in between")


async def follow(connection: Connection, job: Job) -> AsyncGenerator[Job, None]:
    """Iterate over snapshots of a job: `job` itself, then one for each change, the last one terminal.

    Polls the job where there is no stream.

    Raises:
        NotReachable, ApiError: polling failed as well.
    """
    yield job
    for source in (_stream_snapshots, _poll_snapshots):
        if job.status.is_terminal:
            return
        async with aclosing(source(connection, job.id)) as snapshots:
            async for snapshot in snapshots:
                if snapshot != job:
                    job = snapshot
                    yield job


async def _stream_snapshots(connection: Connection, job_id: str) -> AsyncGenerator[Job, None]:
    """Iterate over the stream's snapshots until the job has ended or the stream has failed.

    The stream begins with past events. A terminal event that another event follows belongs to an earlier run of a
    retried job: it is skipped, because callers take a terminal snapshot for the last one.
    """
    end: Job | None = None
    try:
        async with aclosing(stream_events(connection, job_id)) as events:
            async for event in events:
                end = event.job if event.job.status.is_terminal else None
                if end is None:
                    yield event.job
        if end:
            yield end
    except (NoStream, ApiError, NotReachable):
        return


async def _read_stream(connection: Connection, job_id: str, last_id: str) -> AsyncGenerator[ServerEvent, None]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    request = Request("GET", f"v1/jobs/{job_id}/events", headers=headers, read_timeout_s=SILENCE_S)
    reader = EventReader()
    async with connection.stream(request) as response:
        if response.status_code == 204 and last_id:
            raise _StreamEnded
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise NoStream("the response is not an event stream")
        async for chunk in connection.transport.iter_bytes(response):
            for event in reader.feed(chunk):
                yield event


async def _parse_event(connection: Connection, job_id: str, event: ServerEvent) -> JobEvent:
    """Parse an event; if it contains no job record, fetch the record."""
    try:
        job = Job.from_json(json.loads(event.data))
    except (ValueError, KeyError, TypeError):
        job = await connection.fetch(Request("GET", f"v1/jobs/{job_id}"), Job.from_json)
    return JobEvent(event.id, event.name, job, job.raw.get("preview"))


async def _poll_snapshots(connection: Connection, job_id: str) -> AsyncGenerator[Job, None]:
    """Iterate over snapshots by conditional polling; an unchanged job costs one 304."""
    etag = ""
    while True:
        query = {"wait": str(POLL_WAIT_S)} if etag else {}
        headers = {"If-None-Match": etag} if etag else {}
        response = await connection.send(Request("GET", f"v1/jobs/{job_id}", query=query, headers=headers))
        etag = response.headers.get("ETag", "")
        if response.status_code == 200:
            job = Job.from_json(response.json())
            yield job
            if job.status.is_terminal:
                return
        await connection.transport.pause(POLL_PAUSE_S)
