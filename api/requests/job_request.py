"""Read the request of a submit, in any of its forms, into a Submission; validate all that needs no store."""

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile

from api.context.dependencies import RequestContext
from api.http.problem_details import invalid_fields
from api.schemas.jobs import ExportRequest, ImageSource, JobFields, JobRequest
from api.submission.idempotency import validate_key
from api.submission.image_sources import (
    InputSource,
    JobImage,
    RemoteImage,
    SentImage,
    StoredState,
    UploadedImage,
)
from api.submission.submitter import Submission
from shared.domain.job import Job, Lane, Status
from shared.domain.parameters import (
    MAX_IMAGE_BYTES,
    PRESETS,
    ExportParameters,
    Format,
    Parameters,
    PresetName,
    resolve,
    without,
)
from shared.errors import (
    BodyMalformed,
    FormatUnavailable,
    ImageRejected,
    MediaTypeUnsupported,
    ParameterInvalid,
    StateMissing,
    TransitionRefused,
)

M = TypeVar("M", bound=BaseModel)

SPOOL_BYTES = 1_000_000  # memory for a body; a larger body is spooled to disk
CHUNK_CHARACTERS = 1 << 18  # of base64, decoded at a time; a multiple of four
MAX_FORM_FIELDS = 64
MAX_FIELD_BYTES = 64_000
# Form fields that are text; all others are parsed as JSON: numbers, true, an object.
_TEXT_FIELDS = {"engine", "preset", "lane", "custom_id", "pipeline_type", "texture_format", "background"}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


async def read_submission(context: RequestContext, files: AsyncExitStack) -> Submission:
    """Read the body of POST /v1/jobs; temporary files live as long as `files`.

    Raises:
        ServiceError: the request is malformed, too large, has unknown fields or a URL that must not be fetched.
    """
    media_type = context.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = context.request.form(max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES)
        request, source = _read_form(await files.enter_async_context(form))
    elif media_type == "application/json":
        request, source = await _read_json(context, files)
    else:
        raise MediaTypeUnsupported("send multipart/form-data with an image, or application/json")
    await _check_webhook(context, request)
    engines = context.services.deps.engines
    engine = request.engine or engines[0]
    if engine not in engines:
        raise ParameterInvalid(f"no such engine; there are: {', '.join(engines)}", pointer="/engine")
    return _submission(
        context,
        "POST /v1/jobs",
        request,
        source=source,
        engine=engine,
        parameters=resolve(request.explicit(), request.preset),
    )


async def read_export(context: RequestContext, job: Job) -> Submission:
    """Read the body of POST /v1/jobs/{job_id}/exports.

    Raises:
        TransitionRefused: the job has not succeeded.
        StateMissing: it has no state.
        ParameterInvalid: the body sets a parameter that an export cannot change.
    """
    request = parse_json(ExportRequest, await context.request.body() or b"{}")
    if job.status is not Status.SUCCEEDED:
        raise TransitionRefused(f"the job is {job.status}: only a succeeded job can be exported again")
    state = job.artifacts.get("state") or job.input.state
    if state is None or (job.expires_at and job.expires_at <= context.services.jobs.now()):
        raise StateMissing("the job has no state that can be exported again")
    await _check_webhook(context, request)
    before = without(job.parameters, job.preset) if request.preset else job.parameters
    changed = {**(PRESETS[request.preset] if request.preset else {}), **request.explicit()}
    return _submission(
        context,
        f"POST /v1/jobs/{job.id}/exports",
        request,
        source=StoredState(state, job.id),
        engine=job.engine,
        parameters=before.model_copy(update=changed),
    )


def _submission(
    context: RequestContext,
    route: str,
    request: JobFields | ExportRequest,
    *,
    source: InputSource,
    engine: str,
    parameters: Parameters,
) -> Submission:
    _require_formats(parameters, context.services.deps.formats, request.preset)
    headers = context.request.headers
    return Submission(
        caller=context.caller,
        route=route,
        source=source,
        engine=engine,
        parameters=parameters,
        request=request,
        preset=request.preset,
        lane=Lane(request.lane),
        metadata=request.metadata,
        custom_id=request.custom_id,
        traceparent=_traceparent(headers.get("traceparent", "")),
        webhook=request.webhook.to_domain() if request.webhook else None,
        idempotency_key=validate_key(headers.get("idempotency-key")),
        limits=context.limits,
    )


def _require_formats(parameters: ExportParameters, available: Sequence[Format], preset: PresetName | None) -> None:
    """Refuse formats that no worker can write.

    Raises:
        FormatUnavailable: names the missing formats and the available ones.
    """
    missing = [f"`{name}`" for name in parameters.formats if name not in available]
    if missing:
        reason = f" (the preset {preset} may ask for it)" if preset else ""
        raise FormatUnavailable(
            f"this service cannot write {', '.join(missing)}{reason}; it can write {', '.join(available)}: "
            f"name only those in `formats`",
            pointer="/formats",
        )


async def _check_webhook(context: RequestContext, request: JobFields | ExportRequest) -> None:
    if request.webhook:
        await context.services.check_receiver(request.webhook.url, pointer="/webhook/url")


def _traceparent(header: str) -> str | None:
    """Return the W3C trace context if it is well-formed, else None."""
    return header if _TRACEPARENT.fullmatch(header) else None


def parse_json(model: type[M], body: bytes | str) -> M:
    """Parse a body as a model, strictly: a string is not a number, and true is not 1."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise BodyMalformed("the body is not JSON") from error
        raise invalid_fields(error) from error


# --- JSON


async def _read_json(context: RequestContext, files: AsyncExitStack) -> tuple[JobFields, InputSource]:
    """Read a small body in memory; spool a large one to disk until a parser thread is free."""
    body = bytearray()
    chunks = context.request.stream()
    async for chunk in chunks:
        body += chunk
        if len(body) > SPOOL_BYTES:
            request, source = await _read_large_json(context, files, body, chunks)
            break
    else:
        request = parse_json(JobRequest, bytes(body))
        source = _input_source(context, request.image, BytesIO())
    if isinstance(source, RemoteImage):
        await context.services.check_url(source.url)
    return request, source


async def _read_large_json(
    context: RequestContext, files: AsyncExitStack, begun: bytearray, chunks: AsyncIterator[bytes]
) -> tuple[JobRequest, InputSource]:
    file = files.enter_context(TemporaryFile())  # noqa: SIM115 - the exit stack closes it
    with TemporaryFile() as spool:
        spool.write(begun)
        begun.clear()
        async for chunk in chunks:
            spool.write(chunk)
        spool.seek(0)

        def parse() -> tuple[JobRequest, InputSource]:
            request = parse_json(JobRequest, spool.read())
            source = _input_source(context, request.image, file)
            request.image.data = None  # the file holds the image now
            return request, source

        return await context.services.parse_large(parse)


def _input_source(context: RequestContext, image: ImageSource, file: BinaryIO) -> InputSource:
    """Return the source of the image; write the bytes of a data URL to `file`."""
    if image.upload_id is not None:
        return UploadedImage(image.upload_id)
    if image.url is not None:
        return RemoteImage(image.url)
    if image.job_id is not None:
        return JobImage(image.job_id, context.require_job)
    size_bytes = _decode(image.data or "", file)
    return SentImage(file, size_bytes, "/image/data")


def _decode(data_url: str, file: BinaryIO) -> int:
    """Write a data URL's bytes to a file in chunks, to bound the memory; return their number."""
    head = _DATA_URL.match(data_url)
    if head is None:
        raise ParameterInvalid("the value is not a data URL with base64", pointer="/image/data")
    if len(data_url) - head.end() > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ImageRejected("image_too_large", f"the image has over {MAX_IMAGE_BYTES:,} bytes", pointer="/image/data")
    padding = data_url.find("=", head.end())
    try:
        if 0 <= padding < len(data_url) - 2:
            raise binascii.Error("padding before the end")
        pieces = range(head.end(), len(data_url), CHUNK_CHARACTERS)
        return sum(file.write(base64.b64decode(data_url[at : at + CHUNK_CHARACTERS], validate=True)) for at in pieces)
    except ValueError as error:
        raise ParameterInvalid("the data URL's base64 is broken", pointer="/image/data") from error


# --- forms


def _read_form(form: FormData) -> tuple[JobFields, InputSource]:
    fields: dict[str, Any] = {}
    image: UploadFile | None = None
    for name, value in form.multi_items():
        if name in fields or (name == "image" and image):
            raise ParameterInvalid("the field appears twice", pointer=f"/{name}")
        if name == "image" and isinstance(value, UploadFile):
            image = value
        elif isinstance(value, UploadFile):
            raise ParameterInvalid("only `image` may be a file", pointer=f"/{name}")
        elif name != "image":
            fields[name] = parse_form_field(name, value)
    if image is None:
        raise ParameterInvalid("send the image as a file named `image`", pointer="/image")
    request = parse_json(JobFields, json.dumps(fields))
    return request, SentImage(image.file, image.size or 0, "/image")


def parse_form_field(name: str, value: str) -> Any:
    """Parse a form field, which is always text: as JSON if it is not a text field, else unchanged."""
    if name in _TEXT_FIELDS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
