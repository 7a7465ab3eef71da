"""Read a request to create a batch, as a form or as JSON."""

import json
from contextlib import AsyncExitStack
from io import BytesIO
from typing import Any

from starlette.datastructures import FormData, UploadFile

from api.context.dependencies import RequestContext
from api.requests.job_request import MAX_FIELD_BYTES, MAX_FORM_FIELDS, parse_form_field, parse_json
from api.schemas.batches import BatchFields, BatchRequest
from api.submission.batch_submitter import BatchSubmission, FileSource, SentFile, UploadedFile
from api.submission.idempotency import validate_key
from shared.domain.batch import BatchLimits
from shared.errors import MediaTypeUnsupported, ParameterInvalid, UrlUnreachable
from shared.net.address_policy import public_url

_FILES = ("manifest", "images")


async def read_batch_submission(context: RequestContext, files: AsyncExitStack) -> BatchSubmission:
    """Read the body of POST /v1/batches; temporary files live as long as `files`.

    Raises:
        ServiceError: the request is invalid.
    """
    media_type = context.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = context.request.form(max_files=2, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES)
        request, sources = _read_form(await files.enter_async_context(form))
    elif media_type == "application/json":
        request, sources = _read_json(await context.request.body())
    else:
        raise MediaTypeUnsupported("send multipart/form-data with a manifest, or application/json")
    engines = context.services.deps.engines
    engine = request.engine or engines[0]
    if engine not in engines:
        raise ParameterInvalid(f"no such engine; there are: {', '.join(engines)}", pointer="/engine")
    if request.webhook:
        await context.services.check_receiver(request.webhook.url, pointer="/webhook/url")
    if request.deliver_to and public_url(request.deliver_to) is None:
        raise UrlUnreachable("files cannot be delivered there: it is not a public https URL", pointer="/deliver_to")
    return BatchSubmission(
        caller=context.caller,
        request=request,
        engine=engine,
        manifest=sources.get("manifest"),
        images=sources.get("images"),
        limits=BatchLimits(
            max_cost_usd=request.max_cost_usd,
            max_failures=request.max_failures,
            gpu_seconds_per_day=context.limits.gpu_seconds_per_day,
            usd_per_day=context.limits.usd_per_day,
            running_jobs=context.limits.running_jobs,
        ),
        keep_s=context.limits.keep_s,
        idempotency_key=validate_key(context.request.headers.get("idempotency-key")),
    )


def _read_json(body: bytes) -> tuple[BatchFields, dict[str, FileSource]]:
    request = parse_json(BatchRequest, body)
    sources: dict[str, FileSource] = {}
    if request.manifest and request.manifest.upload_id is not None:
        sources["manifest"] = UploadedFile(request.manifest.upload_id)
    elif request.manifest:
        text = (request.manifest.data or "").encode()
        sources["manifest"] = SentFile(BytesIO(text), len(text))
    if request.images:
        sources["images"] = UploadedFile(request.images.upload_id)
    return request, sources


def _read_form(form: FormData) -> tuple[BatchFields, dict[str, FileSource]]:
    """`manifest` and `images` as files, or as the ids of uploads."""
    fields: dict[str, Any] = {}
    sources: dict[str, FileSource] = {}
    for name, value in form.multi_items():
        if name in fields or name in sources:
            raise ParameterInvalid("the field appears twice", pointer=f"/{name}")
        if name in _FILES:
            is_file = isinstance(value, UploadFile)
            sources[name] = SentFile(value.file, value.size or 0) if is_file else UploadedFile(str(value))  # type: ignore[union-attr]
        elif isinstance(value, UploadFile):
            raise ParameterInvalid("only `manifest` and `images` may be files", pointer=f"/{name}")
        else:
            fields[name] = parse_form_field(name, value)
    if not sources:
        raise ParameterInvalid("send the catalog as a file named `manifest`", pointer="/manifest")
    return parse_json(BatchFields, json.dumps(fields)), sources
