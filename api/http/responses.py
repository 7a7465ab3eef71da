"""Jobs as answers: bodies with every URL, ETags, and when to come back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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
    """One job ready to be sent. url: where it is read."""

    content: bytes
    etag: str
    job: Job
    url: str
    eta_seconds: int | None

    def headers(self) -> dict[str, str]:
        """ETag, and Retry-After while the job is unfinished."""
        headers = {"ETag": self.etag}
        if not self.job.status.is_terminal:
            eta_s = MAX_RETRY_S if self.eta_seconds is None else self.eta_seconds
            headers["Retry-After"] = str(min(max(eta_s, MIN_RETRY_S), MAX_RETRY_S))
        return headers

    def ok(self, **more: str) -> Response:
        """200 with the job."""
        return Response(self.content, headers=self.headers() | more, media_type=JSON)

    def accepted(self, **more: str) -> Response:
        """202 with the job, and where to ask for it from now on."""
        return Response(self.content, 202, self.headers() | {"Location": self.url} | more, JSON)

    def conditional(self, request: Request, **more: str) -> Response:
        """As `answer`, or 304 where the client has this very body."""
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
