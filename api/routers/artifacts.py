"""Artifacts: the way from a job to the bytes of its results."""

import re
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi import Path as InPath

from api.context.dependencies import ReadAccess
from api.routers.jobs import JobId
from shared.domain.job import Artifact, Job
from shared.errors import ArtifactNotFound

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

SIGNED_S = 900


@router.get("/{job_id}/artifacts/{name}", status_code=307)
async def read_artifact(
    context: ReadAccess,
    job_id: JobId,
    name: Annotated[str, InPath(description="`model`, `usdz`, `meshopt`, `state` or `poster`.")],
) -> Response:
    """Go to the bytes of a result, by a signed URL that lasts a quarter of an hour."""

    def signed() -> str:
        job = context.require_job(job_id).record
        artifact = job.artifacts.get(name)
        if artifact is None:
            raise ArtifactNotFound("the job has no such artifact, or not yet")
        return context.services.store.sign_get(artifact.key, expires_s=SIGNED_S, filename=_filename(job, artifact))

    url = context.absolute(await context.run(signed))
    return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})


def _filename(job: Job, artifact: Artifact) -> str:
    """What a browser saves it as: the caller's name for the job where there is one, in letters that no system minds."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", job.custom_id or "").strip("-") or job.id
    return stem + "".join(PurePosixPath(artifact.key).suffixes)
