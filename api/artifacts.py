"""Artifacts: the way from a job to the bytes of its results."""

import re
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath


from api import answers
from api.auth import Reader
from api.deps import TheGateway
from api.jobs import JobId, own
from shared.errors import ArtifactNotFound
from shared.job import Artifact, Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

SIGNED_S = 900


@router.get("/{job_id}/artifacts/{name}", status_code=307)
async def read_artifact(
    request: Request,
    gateway: TheGateway,
    caller: Reader,
    job_id: JobId,
    name: Annotated[str, InPath(description="`model`, `state` or `poster`.")],
) -> Response:
    """Go to the bytes of a result, by a signed URL that lasts a quarter of an hour."""

    def signed() -> str:
        job = own(gateway, caller, job_id).job
        artifact = job.artifacts.get(name)
        if artifact is None:
            raise ArtifactNotFound("the job has no such artifact, or not yet")
        return gateway.store.sign_get(artifact.key, expires_s=SIGNED_S, filename=_filename(job, artifact))

    url = answers.absolute(answers.base_url(request, gateway), await gateway.run(signed))
    return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})


def _filename(job: Job, artifact: Artifact) -> str:
    """What a browser saves it as: the caller's name for the job where there is one, in letters that no system minds."""
    ending = PurePosixPath(artifact.key).suffix
    return re.sub(r"[^A-Za-z0-9_-]+", "-", job.custom_id or job.id).strip("-") + ending
