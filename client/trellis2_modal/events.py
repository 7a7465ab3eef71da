"""Following a job: by server-sent events where the service offers them, by conditional polling where not."""

import json
from collections.abc import Callable, Iterator

import httpx

from trellis2_modal import sse
from trellis2_modal.connection import Call, Connection
from trellis2_modal.errors import ApiError, NotReachable
from trellis2_modal.job import Job

POLL_WAIT_S = 2
POLL_PAUSE_S = 0.5
# Longer than the 15 s between two keep-alive comments: silence beyond this is a dead connection.
SILENCE_S = 40.0
STREAM_TRIES = 3


class _NoStream(Exception):
    """The service, or something in front of it, does not stream."""


def follow(connection: Connection, job: Job, pause: Callable[[float], None]) -> Iterator[Job]:
    """Snapshots of a job, the given one first, then one for every change, the last one terminal.

    A stream that breaks is taken up where it ended; after STREAM_TRIES breaks without an event between them, or where
    no stream is to be had, the job is polled.

    Raises:
        NotReachable, ApiError: polling found no way either.
    """
    yield job
    for source in (_streamed, _polled):
        if job.status.is_terminal:
            return
        for snapshot in source(connection, job.id, pause):
            if snapshot != job:
                job = snapshot
                yield job


def _streamed(connection: Connection, job_id: str, pause: Callable[[float], None]) -> Iterator[Job]:
    """Snapshots from the event stream until a terminal one, or until streaming is given up."""
    last_id = ""
    failures = 0
    while failures < STREAM_TRIES:
        try:
            for event in _events(connection, job_id, last_id):
                failures, last_id = 0, event.id or last_id
                job = _snapshot(connection, job_id, event)
                yield job
                if job.status.is_terminal:
                    return
        except (_NoStream, ApiError, NotReachable):
            return
        except httpx.TransportError:
            pass
        failures += 1
        pause(float(failures))


def _events(connection: Connection, job_id: str, last_id: str) -> Iterator[sse.ServerEvent]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    call = Call("GET", f"v1/jobs/{job_id}/events", headers=headers, read_timeout_s=SILENCE_S)
    with connection.stream(call) as response:
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise _NoStream
        yield from sse.parse(response.iter_bytes())


def _snapshot(connection: Connection, job_id: str, event: sse.ServerEvent) -> Job:
    """The job that an event carries; one that carries something else says at least that there is news."""
    try:
        return Job.from_wire(json.loads(event.data))
    except (ValueError, KeyError, TypeError):
        return connection.ask(Call("GET", f"v1/jobs/{job_id}"), Job.from_wire)


def _polled(connection: Connection, job_id: str, pause: Callable[[float], None]) -> Iterator[Job]:
    """Snapshots by asking again and again; an unchanged job costs one 304."""
    etag = ""
    while True:
        wait = {"wait": str(POLL_WAIT_S)} if etag else {}
        seen = {"If-None-Match": etag} if etag else {}
        response = connection.send(Call("GET", f"v1/jobs/{job_id}", query=wait, headers=seen))
        etag = response.headers.get("ETag", "")
        if response.status_code == 200:
            job = Job.from_wire(response.json())
            yield job
            if job.status.is_terminal:
                return
        pause(POLL_PAUSE_S)
