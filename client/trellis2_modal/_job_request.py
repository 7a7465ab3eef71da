"""How a picture and its parameters reach the service: as a form, by an upload, or as a URL.

A small file travels with its parameters in one multipart request. A large one goes to the store first, by a signed
form, so that it never passes through the gateway, and is then named in a JSON request. With an idempotency key of the
caller's own it always travels as multipart: an upload would give the repeated call another `upload_id`, and so another
payload under the same key.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trellis2_modal._http import Connection, Request, json_content
from trellis2_modal._image import ImageFile, PictureSource, file_of, url_of
from trellis2_modal.errors import InputRejected

LARGE_BYTES = 4_000_000
UPLOAD_TIMEOUT_S = 120.0


async def submission(
    connection: Connection, picture: PictureSource, fields: Mapping[str, Any], *, key: str, may_upload: bool
) -> Request:
    """The call that submits a job; a large picture is uploaded by the time this returns.

    Raises:
        OSError: the picture's file cannot be read.
        InputRejected: it is longer than the service takes.
    """
    headers = {"Idempotency-Key": key}
    if url := url_of(picture):
        return _as_json({"url": url}, fields, headers)
    file = file_of(picture)
    if may_upload and file.size_bytes > LARGE_BYTES:
        return _as_json({"upload_id": await upload(connection, file)}, fields, headers)
    return _as_form(file, fields, headers)


def _as_json(image: Mapping[str, str], fields: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
    return Request("POST", "v1/jobs", headers=headers, content=json_content({"image": image, **fields}))


def _as_form(file: ImageFile, fields: Mapping[str, Any], headers: Mapping[str, str]) -> Request:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}

    @contextmanager
    def content() -> Iterator[Mapping[str, Any]]:
        with file.open() as stream:
            yield {"data": form, "files": {"image": (file.name, stream, file.content_type)}}

    return Request("POST", "v1/jobs", headers=headers, content=content, read_timeout_s=UPLOAD_TIMEOUT_S)


async def upload(connection: Connection, file: ImageFile, *, purpose: str = "image") -> str:
    """Send a file to the store, past the gateway; the `upload_id` that stands for it.

    Raises:
        InputRejected: it is longer than the service takes.
    """
    slot = await connection.ask(Request("POST", "v1/uploads", content=json_content({"purpose": purpose})), dict)
    if file.size_bytes > slot["max_bytes"]:
        detail = f"{file.name} is {file.size_bytes:,} bytes; the service takes {slot['max_bytes']:,}"
        raise InputRejected(413, {"code": "image_too_large", "detail": detail})

    @contextmanager
    def content() -> Iterator[Mapping[str, Any]]:
        with file.open() as stream:
            yield {"data": slot["fields"], "files": {"file": (file.name, stream, file.content_type)}}

    await connection.send(Request("POST", slot["url"], content=content, read_timeout_s=UPLOAD_TIMEOUT_S))
    return str(slot["upload_id"])
