"""Jobs: submit, read, list, cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from api import answers
from api.auth import Caller, Reader, Writer
from api.bodies import JobBody, JobPage
from api.deps import Gateway, TheGateway
from api.intake import submission_of
from api.submit import Submission
from api.waiting import MAX_WAIT_S, preferred_wait_s, until_ended
from shared import keys
from shared.errors import JobNotFound, ParameterInvalid
from shared.job import Job, Status
from shared.records import Versioned

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, InPath(description="The job's id.")]
MAX_PAGE = 100


def own(gateway: Gateway, caller: Caller, job_id: str) -> Versioned:
    """A caller's job.

    Raises:
        JobNotFound: there is none, it is another caller's, or it was deleted: all three look alike.
    """
    found = gateway.ledger.find(job_id) if keys.is_id(job_id, "job") else None
    if found is None or found.job.caller != caller.name or found.job.erased_at:
        raise JobNotFound("no such job")
    return found


@router.post("", status_code=202, response_model=JobBody)
async def submit_job(request: Request, gateway: TheGateway, caller: Writer) -> Response:
    """Submit a picture, as a form with `image` and fields, or as JSON. The answer means: it is stored, and will run."""
    base = answers.base_url(request, gateway)

    def submit(wish: Submission) -> tuple[Versioned, answers.JobView]:
        created = gateway.submitter.submit(wish)
        return created, answers.view(created.job, gateway, base)

    async with submission_of(request, gateway, caller) as wish:
        created, seen = await gateway.run(submit, wish)
    wait_s = preferred_wait_s(request)
    if wait_s is None:
        return seen.accepted(base)
    ended = await _waited(gateway, caller, created, wait_s)
    seen = await gateway.run(answers.view, ended.job, gateway, base)
    return seen.accepted(base, **{"Preference-Applied": f"wait={wait_s}"})


@router.get("", response_model=JobPage)
async def list_jobs(
    request: Request,
    gateway: TheGateway,
    caller: Reader,
    status: Annotated[Status | None, Query(description="Only jobs in this status.")] = None,
    batch: Annotated[str | None, Query(max_length=64, description="Only jobs of this batch.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most so many.")] = 20,
    after: Annotated[str, Query(max_length=64, description="The `next_cursor` of the page before.")] = "",
) -> Response:
    """List your jobs, newest first."""
    if after and not keys.is_cursor(after):
        raise ParameterInvalid("not a cursor of this list", pointer="/after")

    def wanted(job: Job) -> bool:
        return (status is None or job.status is status) and (batch is None or job.batch_id == batch)

    def listed() -> bytes:
        found = gateway.ledger.list(caller.name, limit=limit, after=after, wanted=wanted)
        return answers.page(found.jobs, found.next_cursor, gateway, answers.base_url(request, gateway))

    return Response(await gateway.run(listed), media_type=answers.JSON)


@router.get("/{job_id}", response_model=JobBody)
async def read_job(
    request: Request,
    gateway: TheGateway,
    caller: Reader,
    job_id: JobId,
    wait: Annotated[int | None, Query(ge=0, le=MAX_WAIT_S, description="Answer when it ends, or after so long.")] = None,
) -> Response:
    """Read a job. With `If-None-Match` an unchanged one costs hardly anything."""
    base = answers.base_url(request, gateway)

    def read() -> tuple[Versioned, answers.JobView]:
        found = own(gateway, caller, job_id)
        return found, answers.view(found.job, gateway, base)

    found, seen = await gateway.run(read)
    preferred_s = preferred_wait_s(request)
    wait_s = wait if wait is not None else preferred_s
    if wait_s and not found.job.status.is_terminal:
        ended = await _waited(gateway, caller, found, wait_s)
        seen = await gateway.run(answers.view, ended.job, gateway, base)
    applied = {} if preferred_s is None else {"Preference-Applied": f"wait={wait_s}"}
    return seen.unless_known(request, **applied)


@router.post("/{job_id}/cancel", response_model=JobBody)
async def cancel_job(request: Request, gateway: TheGateway, caller: Writer, job_id: JobId) -> Response:
    """Cancel a job. One that has ended stays as it is, and is no error."""
    base = answers.base_url(request, gateway)

    def cancel() -> answers.JobView:
        own(gateway, caller, job_id)
        return answers.view(gateway.ledger.cancel(job_id).job, gateway, base)

    return (await gateway.run(cancel)).answer()


@router.post("/{job_id}/retry", status_code=202, response_model=JobBody)
async def retry_job(request: Request, gateway: TheGateway, caller: Writer, job_id: JobId) -> Response:
    """Run a failed, canceled or expired job again, under its id."""
    base = answers.base_url(request, gateway)

    def retry() -> answers.JobView:
        own(gateway, caller, job_id)
        queued = gateway.ledger.retry(job_id).job
        gateway.submitter.ring(queued)
        return answers.view(queued, gateway, base)

    return (await gateway.run(retry)).accepted(base)


@router.delete("/{job_id}", status_code=204)
async def delete_job(gateway: TheGateway, caller: Writer, job_id: JobId) -> Response:
    """Delete a job with its picture and its results, canceling it first if need be."""

    def delete() -> None:
        own(gateway, caller, job_id)
        gateway.ledger.erase(job_id)

    await gateway.run(delete)
    return Response(status_code=204)


async def _waited(gateway: Gateway, caller: Caller, first: Versioned, wait_s: float) -> Versioned:
    return await until_ended(
        lambda: gateway.run(own, gateway, caller, first.job.id), first, gateway.deps, wait_s=wait_s
    )
