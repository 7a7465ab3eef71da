"""Reads a submit in any of its forms into a Submission: everything about it that can be judged without the store."""

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from api.auth import Caller
from api.bodies import ExportRequest, ImageSource, JobFields, JobRequest
from api.deps import Gateway
from api.idempotency import checked_key
from api.problems import invalid_fields
from api.sources import RemotePicture, SentPicture, Source, StoredState, UploadedPicture
from api.submit import Submission
from shared.contract import MAX_PICTURE_BYTES, PRESETS, ExportParameters, Parameters, resolve
from shared.errors import (
    BodyMalformed,
    MediaTypeUnsupported,
    ParameterInvalid,
    PictureRejected,
    StateMissing,
    TransitionRefused,
)
from shared.job import Job, Status
from shared.ports import Lane

SPOOL_BYTES = 1_000_000  # what a body may take of memory; the rest goes to disk
MAX_FORM_FIELDS = 64
MAX_FIELD_BYTES = 64_000
# Form fields that are text as they stand; all others are JSON: numbers, true, an object.
_TEXT_FIELDS = {"engine", "preset", "lane", "custom_id", "pipeline_type", "texture_format", "background"}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@asynccontextmanager
async def submission_of(request: Request, gateway: Gateway, caller: Caller) -> AsyncIterator[Submission]:
    """The wish in a request to POST /v1/jobs; its files live as long as the context.

    Raises:
        ServiceError: any that the caller can cure: malformed, too large, unknown fields, a URL that may not be fetched.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            fields, source = _read_form(form)
            yield _submission(request, gateway, caller, fields, source)
    elif media_type == "application/json":
        with SpooledTemporaryFile(max_size=SPOOL_BYTES) as picture:
            wish, source = await _read_json(request, gateway, cast(BinaryIO, picture))
            yield _submission(request, gateway, caller, wish, source)
    else:
        raise MediaTypeUnsupported("send multipart/form-data with an image, or application/json")


async def export_of(request: Request, caller: Caller, job: Job) -> Submission:
    """The wish in a request to export a job's state again.

    Raises:
        TransitionRefused: the job has not succeeded.
        StateMissing: it has left no state.
        ParameterInvalid: the body asks for what an export cannot change.
    """
    try:
        wish = ExportRequest.model_validate_json(await request.body() or b"{}", strict=True)
    except ValidationError as error:
        raise invalid_fields(error) from error
    if job.status is not Status.SUCCEEDED:
        raise TransitionRefused(f"the job is {job.status}: only a succeeded one can be exported again")
    state = job.artifacts.get("state") or job.input.state
    if state is None:
        raise StateMissing("the job has left no state that could be exported again")
    changed = {**(PRESETS[wish.preset] if wish.preset else {}), **wish.explicit()}
    return Submission(
        caller=caller.name,
        route=f"POST /v1/jobs/{job.id}/exports",
        source=StoredState(state, job.id),
        engine=job.engine,
        parameters=job.parameters.model_copy(update=changed),
        given=wish.model_dump(exclude_unset=True),
        preset=wish.preset,
        lane=Lane(wish.lane),
        metadata=wish.metadata,
        custom_id=wish.custom_id,
        traceparent=_traceparent(request),
        idempotency_key=checked_key(request.headers.get("idempotency-key")),
    )


def _submission(
    request: Request, gateway: Gateway, caller: Caller, wish: JobFields, source: Source
) -> Submission:
    engines = gateway.deps.engines
    engine = wish.engine or engines[0]
    if engine not in engines:
        raise ParameterInvalid(f"no such engine; there are: {', '.join(engines)}", pointer="/engine")
    return Submission(
        caller=caller.name,
        route="POST /v1/jobs",
        source=source,
        engine=engine,
        parameters=resolve(wish.explicit(), wish.preset),
        given=wish.model_dump(exclude_unset=True, exclude={"image"}),
        preset=wish.preset,
        lane=Lane(wish.lane),
        metadata=wish.metadata,
        custom_id=wish.custom_id,
        traceparent=_traceparent(request),
        idempotency_key=checked_key(request.headers.get("idempotency-key")),
    )


def _traceparent(request: Request) -> str | None:
    """The W3C trace context, where it is well-formed; a broken one is as good as none."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None


# --- JSON


async def _read_json(request: Request, gateway: Gateway, picture: BinaryIO) -> tuple[JobRequest, Source]:
    """Large bodies wait on disk until one of the few slots for parsing them is free; `picture` takes a data URL's."""
    with SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        size_bytes = 0
        async for chunk in request.stream():
            size_bytes += len(chunk)
            spool.write(chunk)
        spool.seek(0)
        if size_bytes <= SPOOL_BYTES:
            wish, source = _parse_json(spool.read(), picture)
        else:
            async with gateway.large_bodies:
                wish, source = await gateway.run(lambda: _parse_json(spool.read(), picture))
    if isinstance(source, RemotePicture):
        await gateway.check_url(source.url)
    return wish, source


def _parse_json(body: bytes, picture: BinaryIO) -> tuple[JobRequest, Source]:
    try:
        wish = JobRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise BodyMalformed("the body is not JSON") from error
        raise invalid_fields(error) from error
    source = _source_of(wish.image, picture)
    # What the source holds by now need not be held twice.
    return wish.model_copy(update={"image": ImageSource.model_construct()}), source


def _source_of(image: ImageSource, picture: BinaryIO) -> Source:
    if image.upload_id is not None:
        return UploadedPicture(image.upload_id)
    if image.url is not None:
        return RemotePicture(image.url)
    assert image.data is not None  # noqa: S101 - the model has seen to it
    size_bytes = picture.write(_decoded(image.data))
    return SentPicture(picture, size_bytes, "/image/data")


def _decoded(data_url: str) -> bytes:
    head = _DATA_URL.match(data_url)
    if head is None:
        raise ParameterInvalid("not a data URL with base64", pointer="/image/data")
    if len(data_url) - head.end() > MAX_PICTURE_BYTES * 4 // 3 + 4:
        raise PictureRejected(
            "picture_too_large", f"the picture has over {MAX_PICTURE_BYTES:,} bytes", pointer="/image/data"
        )
    try:
        return base64.b64decode(memoryview(data_url.encode())[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParameterInvalid("the data URL's base64 is broken", pointer="/image/data") from error


# --- forms


def _read_form(form: FormData) -> tuple[JobFields, Source]:
    fields: dict[str, Any] = {}
    image: UploadFile | None = None
    for name, value in form.multi_items():
        if name in fields or (name == "image" and image):
            raise ParameterInvalid("given twice", pointer=f"/{name}")
        if name == "image" and isinstance(value, UploadFile):
            image = value
        elif isinstance(value, UploadFile):
            raise ParameterInvalid("only `image` may be a file", pointer=f"/{name}")
        elif name != "image":
            fields[name] = _field(name, value)
    if image is None:
        raise ParameterInvalid("send the picture as a file named `image`", pointer="/image")
    try:
        wish = JobFields.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise invalid_fields(error) from error
    return wish, SentPicture(cast(BinaryIO, image.file), image.size or 0, "/image")


def _field(name: str, value: str) -> Any:
    """A form has only text: what is not text by nature is read as JSON, and left as it is where it is none."""
    if name in _TEXT_FIELDS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


