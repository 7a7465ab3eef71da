"""HTTP routes of the embedded store's signed URLs and forms, as S3 has them for its own."""

import os
from collections.abc import Callable, Mapping
from email.utils import format_datetime
from io import FileIO
from pathlib import PurePosixPath
from tempfile import TemporaryFile
from typing import IO

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api.http.problem_details import problem_response
from infra.embedded_store.store import FILES_PATH, ObjectStream, SqliteStore
from shared.errors import BodyMalformed, BodyTooLarge, ObjectNotFound, SignatureInvalid

# Never HTML or SVG: what a caller uploaded must not run as a page of ours.
CONTENT_TYPES = {
    ".csv": "text/csv",
    ".glb": "model/gltf-binary",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".png": "image/png",
    ".usdz": "model/vnd.usdz+zip",
    ".webp": "image/webp",
}
FORM_FIELDS = {"key", "expires", "max_bytes", "signature"}
MAX_FIELDS = 16
MAX_FIELDS_BYTES = 16 * 1024

Sink = Callable[[bytes], None]


def files_router(store: SqliteStore) -> APIRouter:
    """Create routes for `store.sign_get` and `store.sign_post`; the gateway bounds how long an upload may take."""
    router = APIRouter(include_in_schema=False)

    @router.api_route(FILES_PATH + "/{key:path}", methods=["GET", "HEAD"])
    def read(key: str, request: Request) -> Response:
        try:
            return _read(store, key, request)
        except ObjectNotFound as error:  # elsewhere in the API it is our fault, here it is the caller's
            return problem_response(404, "Not found", code=error.code, detail="there is no such object")

    @router.post(FILES_PATH)
    async def receive(request: Request) -> Response:
        return await _receive(store, request)

    return router


# --- reading


def _read(store: SqliteStore, key: str, request: Request) -> Response:
    query = dict(request.query_params)
    if not store.signer.allows_get(key, query, now=store.now()):
        raise SignatureInvalid("the URL is not signed by this service, or has expired")
    stream = store.open(key)
    headers = {
        "ETag": f'"{stream.etag}"',
        "Cache-Control": f"private, max-age={int(query['expires']) - int(store.now().timestamp())}, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_known(stream.etag, request.headers.get("if-none-match", "")):
        stream.file.close()
        return Response(status_code=304, headers=headers)
    file = _sendable(stream)
    return FileResponse(
        f"/dev/fd/{file.fileno()}",
        headers=headers | {"Last-Modified": format_datetime(stream.modified_at, usegmt=True)},
        media_type=CONTENT_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream"),
        filename=query.get("filename") or None,
        stat_result=os.fstat(file.fileno()),
        background=BackgroundTask(file.close),
    )


def _is_known(etag: str, if_none_match: str) -> bool:
    known = [tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")]
    return etag in known or known == ["*"]


def _sendable(stream: ObjectStream) -> IO[bytes] | FileIO:
    """Open an object as a file that FileResponse can send, with ranges, by the path of the descriptor.

    A path of the object itself could lead to another one by the time it is opened.
    """
    if isinstance(stream.file, FileIO):
        return stream.file
    # In memory where the system can: a full disk must not keep objects from being read.
    file = FileIO(os.memfd_create("object"), "r+") if hasattr(os, "memfd_create") else TemporaryFile(buffering=0)  # noqa: SIM115 - closed by the response
    file.write(stream.file.read())
    return file


# --- forms


async def _receive(store: SqliteStore, request: Request) -> Response:
    """Stream a form to the disk, one chunk in memory at a time."""
    with store.stage() as staged:
        signed: dict[str, str] = {}

        def begin(fields: Mapping[str, str]) -> Sink:
            """Accept our fields and no others: S3, too, refuses a field that its policy does not name."""
            if set(fields) != FORM_FIELDS or not store.signer.allows_post(fields, now=store.now()):
                raise SignatureInvalid("the form is not signed by this service, or has expired")
            signed.update(fields)
            return write

        def write(chunk: bytes) -> None:
            if staged.size_bytes + len(chunk) > int(signed["max_bytes"]):
                raise BodyTooLarge(f"the file is larger than {signed['max_bytes']} bytes")
            staged.write(chunk)

        try:
            form = FormReader(request.headers.get("content-type", ""), begin)
            async for chunk in request.stream():
                await run_in_threadpool(form.feed, chunk)
        except (ValueError, ClientDisconnect) as error:
            raise BodyMalformed(str(error)) from error
        if not form.is_complete:
            raise BodyMalformed("the form ends before its file does")
        etag = await run_in_threadpool(store.publish, staged, signed["key"])
    return Response(status_code=204, headers={"ETag": f'"{etag}"'})


class FormReader:
    """Reads `multipart/form-data` in the order of S3's signed POST: fields, then one file, passed on chunk by chunk.

    What follows the file is ignored. Starlette's form parser would write the file to a temporary file first.
    """

    def __init__(self, content_type: str, begin: Callable[[Mapping[str, str]], Sink]) -> None:
        """`begin` is called with the fields when the file begins; it returns the function that takes its bytes.

        Raises:
            ValueError: the Content-Type is not a form's.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise ValueError("the body is not multipart/form-data")
        self.is_complete = False
        self._begin = begin
        self._fields: dict[str, bytearray] = {}
        self._fields_bytes = 0
        self._disposition = bytearray()
        self._header = bytearray()
        self._part: bytearray | Sink | None = None
        self._has_file = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": self._on_header_value,
                "on_header_end": self._header.clear,
                "on_headers_finished": self._on_part,
                "on_part_data": self._on_data,
                "on_end": self._on_end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises ValueError where the form is broken or its fields are too large."""
        self._parser.write(chunk)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition.extend(data[start:end])

    def _on_part(self) -> None:
        name = parse_options_header(bytes(self._disposition))[1].get(b"name", b"").decode(errors="replace")
        self._disposition.clear()
        if self._has_file:
            self._part = None
        elif name == "file":
            self._has_file = True
            self._part = self._begin(
                {field: bytes(value).decode(errors="replace") for field, value in self._fields.items()}
            )
        else:
            self._part = self._fields[name] = bytearray()
            self._count(len(name))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self._part, bytearray):
            self._count(end - start)
            self._part.extend(data[start:end])
        elif self._part:
            self._part(data[start:end])

    def _on_end(self) -> None:
        self.is_complete = self._has_file

    def _count(self, size_bytes: int) -> None:
        self._fields_bytes += size_bytes
        if len(self._fields) > MAX_FIELDS or self._fields_bytes > MAX_FIELDS_BYTES:
            raise ValueError("the form's fields are too large")
