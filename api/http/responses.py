"""Jobs as answers: bodies with every URL, ETags, and when to come back."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request, Response

from api.queue.estimate import Estimate, Estimates
from api.schemas.jobs import ArtifactResponse, JobErrorResponse, JobPage, JobResponse, WebhookResponse
from shared.domain.job import Job, Status, Webhook

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
    """A job as its caller sees it; may list a lane for the estimate."""
    seen = job_response(job, estimates.estimate(job), base_url)
    content = seen.model_dump_json().encode()
    etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    return SerializedJob(content, etag, job, seen.status_url, seen.eta_seconds)


def serialize_page(jobs: Sequence[Job], next_cursor: str | None, estimates: Estimates, base_url: str) -> bytes:
    """A page of jobs."""
    bodies = [job_response(job, estimates.estimate(job), base_url) for job in jobs]
    return JobPage(data=bodies, next_cursor=next_cursor).model_dump_json().encode()


def job_response(job: Job, estimate: Estimate, base_url: str) -> JobResponse:
    """The wire form of a job."""
    url = f"{base_url}/v1/jobs/{job.id}"
    artifacts = {
        name: ArtifactResponse(
            url=f"{url}/artifacts/{name}", expires_at=job.expires_at, **artifact.model_dump(exclude={"key"})
        )
        for name, artifact in job.artifacts.items()
    }
    return JobResponse(
        id=job.id,
        status=job.status,
        stage=job.stage if job.status is Status.RUNNING else None,
        progress=job.progress,
        queue_position=estimate.queue_position,
        eta_seconds=estimate.eta_seconds,
        attempt=job.attempt,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        engine=job.engine,
        lane=job.lane,
        seed=job.parameters.seed,
        parameters=job.parameters,
        preset=job.preset,
        metadata=job.metadata,
        batch_id=job.batch_id,
        custom_id=job.custom_id,
        artifacts=artifacts,
        checks=job.checks,
        sampled=job.sampled,
        timings=job.timings,
        gpu_seconds=job.gpu_seconds,
        cost_usd=job.cost_usd,
        error=JobErrorResponse.model_validate(job.error.model_dump()) if job.error else None,
        webhook=_webhook(job.webhook) if job.webhook else None,
        status_url=url,
        events_url=f"{url}/events",
        cancel_url=f"{url}/cancel",
        result=artifacts["model"].url if "model" in artifacts else None,
    )


def _webhook(webhook: Webhook) -> WebhookResponse:
    return WebhookResponse(url=webhook.url.partition("?")[0], events=list(webhook.events))
