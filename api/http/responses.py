"""Build responses: jobs with ETag and Retry-After, and static assets."""

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fastapi import Request, Response

from api.queue.estimate import Estimates
from api.schemas.jobs import JobPage
from shared.domain.job import Job
from shared.domain.job_schema import JobBody, job_body

JSON = "application/json"
MIN_RETRY_S = 1
MAX_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class SerializedJob:
    """One job as JSON; `url` is its own URL."""

    content: bytes
    etag: str
    job: Job
    url: str
    eta_seconds: int | None

    def headers(self) -> dict[str, str]:
        """Return ETag, and Retry-After while the job is unfinished."""
        headers = {"ETag": self.etag}
        if not self.job.status.is_terminal:
            eta_s = MAX_RETRY_S if self.eta_seconds is None else self.eta_seconds
            headers["Retry-After"] = str(min(max(eta_s, MIN_RETRY_S), MAX_RETRY_S))
        return headers

    def ok(self, **more: str) -> Response:
        """Answer 200 with the job."""
        return Response(self.content, headers=self.headers() | more, media_type=JSON)

    def accepted(self, **more: str) -> Response:
        """Answer 202 with the job and its URL."""
        return Response(self.content, 202, self.headers() | {"Location": self.url} | more, JSON)

    def conditional(self, request: Request, **more: str) -> Response:
        """Answer 200 with the job, or 304 if the client has this body."""
        known = request.headers.get("if-none-match", "")
        if known and (known.strip() == "*" or self.etag in known):
            return Response(status_code=304, headers=self.headers() | more)
        return self.ok(**more)


def serialize_job(job: Job, estimates: Estimates, base_url: str) -> SerializedJob:
    """Build the answer for one job; may list a lane for the estimate."""
    body = _body(job, estimates, base_url)
    content = body.model_dump_json().encode()
    etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    return SerializedJob(content, etag, job, body.status_url, body.eta_seconds)


def serialize_page(jobs: Sequence[Job], next_cursor: str | None, estimates: Estimates, base_url: str) -> bytes:
    """Build the JSON of a page of jobs."""
    bodies = [_body(job, estimates, base_url) for job in jobs]
    return JobPage(data=bodies, next_cursor=next_cursor).model_dump_json().encode()


def _body(job: Job, estimates: Estimates, base_url: str) -> JobBody:
    estimate = estimates.estimate(job)
    return job_body(job, base_url, queue_position=estimate.queue_position, eta_seconds=estimate.eta_seconds)


class StaticAsset:
    """A body that never changes while the process lives: compressed once, with an ETag of its hash.

    Starlette's StaticFiles reads from disk at each request, has no gzip, and an ETag of the modification time, which
    differs between containers of one release; URLs with a version are immutable only with a hash.
    """

    def __init__(self, content: bytes, media_type: str, *, is_text: bool = True) -> None:
        """`is_text`: compress the body."""
        self.content = content
        self.media_type = media_type
        self._is_text = is_text

    @cached_property
    def etag(self) -> str:
        """Return a strong ETag of the content."""
        return f'"{hashlib.blake2b(self.content, digest_size=12).hexdigest()}"'

    @cached_property
    def _gzipped(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Answer 200 with the body, or 304 if the client has it."""
        headers = {**headers, "ETag": self.etag, "Vary": "Accept-Encoding"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if self._is_text and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self._gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)
