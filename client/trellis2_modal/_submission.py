"""Sends images and catalogs: as a form, by an upload to the store, or as a URL.

A small file goes with its parameters in one multipart request. A large file goes to the store first, with a signed
form, so that it never passes through the gateway; a JSON request then names it by `upload_id`. With an idempotency key
of the caller's own a job's image always goes as multipart: an upload would give the repeated request another
`upload_id`, and so another payload under the same key.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from trellis2_modal._http import Connection, Content, Request, json_content
from trellis2_modal.errors import InputRejected

PathLike = str | os.PathLike[str]
ImageSource = PathLike | bytes

LARGE_BYTES = 4_000_000  # larger files are uploaded to the store first
UPLOAD_TIMEOUT_S = 120.0
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_SIGNATURE_BYTES = 12


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file to send, from memory or from disk; `open` it again for each attempt."""

    source: bytes | Path

    @property
    def name(self) -> str:
        """The file name in the form."""
        return self.source.name if isinstance(self.source, Path) else "image"

    @property
    def size_bytes(self) -> int:
        return self.source.stat().st_size if isinstance(self.source, Path) else len(self.source)

    @property
    def content_type(self) -> str:
        """The media type by the file's signature; the service checks for itself."""
        with self.open() as stream:
            head = stream.read(_SIGNATURE_BYTES)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png"
        if head.startswith(b"\xff\xd8\xff"):
            return "image/jpeg"
        return "image/webp" if head[:4] + head[8:] == b"RIFFWEBP" else "application/octet-stream"

    def open(self) -> BinaryIO:
        """Open the file at its beginning."""
        return self.source.open("rb") if isinstance(self.source, Path) else BytesIO(self.source)

    def form(self, part: str, fields: Mapping[str, str]) -> Content:
        """Make the content of a multipart request: the fields, and the file as `part`."""

        @contextmanager
        def open_form() -> Iterator[Mapping[str, Any]]:
            with self.open() as stream:
                yield {"data": fields, "files": {part: (self.name, stream, self.content_type)}}

        return open_form


def image_url(image: ImageSource) -> str | None:
    """Return the image as a URL that the service fetches itself, or None if it is a file."""
    is_url = isinstance(image, str) and image.lower().startswith(("https://", "http://"))
    return str(image) if is_url else None


async def job_request(
    connection: Connection, image: ImageSource, fields: Mapping[str, Any], *, key: str, may_upload: bool
) -> Request:
    """Build the request that submits a job, after uploading a large image.

    Raises:
        OSError: the image's file cannot be read.
        InputRejected: the file is longer than the service accepts.
    """
    headers = {"Idempotency-Key": key}
    source: dict[str, str] = {}
    if url := image_url(image):
        source = {"url": url}
    else:
        file = SentFile(image if isinstance(image, bytes) else Path(image))
        if may_upload and file.size_bytes > LARGE_BYTES:
            source = {"upload_id": await upload(connection, file)}
    if source:
        return Request("POST", "v1/jobs", headers=headers, content=json_content({"image": source, **fields}))
    form = file.form("image", _form_fields(fields))
    return Request("POST", "v1/jobs", headers=headers, content=form, read_timeout_s=UPLOAD_TIMEOUT_S)


@asynccontextmanager
async def batch_request(
    connection: Connection,
    manifest: PathLike | None,
    images: PathLike | None,
    fields: Mapping[str, Any],
    *,
    key: str,
) -> AsyncIterator[Request]:
    """Build the request that submits a batch, after uploading large files.

    A folder of images is packed into a zip, which is kept until the `with` ends.

    Raises:
        OSError: a file cannot be read.
        InputRejected: a file is longer than the service accepts.
    """
    paths = {"manifest": Path(manifest) if manifest else None, "images": Path(images) if images else None}
    with ExitStack() as stack:
        files: dict[str, SentFile] = {}
        for name, path in paths.items():
            if path:  # packing a folder may take long
                files[name] = await connection.transport.run_blocking(partial(stack.enter_context, _pack(path)))
        small = {name: file for name, file in files.items() if file.size_bytes <= LARGE_BYTES}
        form = _form_fields(fields)
        for name in files.keys() - small.keys():
            form[name] = await upload(connection, files[name], purpose=name)

        @contextmanager
        def open_form() -> Iterator[Mapping[str, Any]]:
            with ExitStack() as opened:
                parts = {name: (file.name, opened.enter_context(file.open())) for name, file in small.items()}
                # Text fields as parts, too: httpx sends no multipart form that has no files.
                texts = {name: (None, value) for name, value in form.items()}
                yield {"files": {**texts, **parts}}

        headers = {"Idempotency-Key": key}
        yield Request("POST", "v1/batches", headers=headers, content=open_form, read_timeout_s=UPLOAD_TIMEOUT_S)


async def upload(connection: Connection, file: SentFile, *, purpose: str = "image") -> str:
    """Upload a file to the store and return its `upload_id`.

    Raises:
        InputRejected: the file is longer than the service accepts.
    """
    target = await connection.fetch(Request("POST", "v1/uploads", content=json_content({"purpose": purpose})), dict)
    if file.size_bytes > target["max_bytes"]:
        detail = f"{file.name} is {file.size_bytes:,} bytes; the service accepts {target['max_bytes']:,}"
        raise InputRejected(413, {"code": "image_too_large", "detail": detail})
    form = file.form("file", target["fields"])
    await connection.send(Request("POST", target["url"], content=form, read_timeout_s=UPLOAD_TIMEOUT_S))
    return str(target["upload_id"])


def _form_fields(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


@contextmanager
def _pack(path: Path) -> Iterator[SentFile]:
    """Give a file as it is, a folder as a temporary zip of its images."""
    if not path.is_dir():
        yield SentFile(path)
        return
    images = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not images:
        raise FileNotFoundError(f"{path} contains no images")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{path.resolve().name}.zip"
        # Stored, not deflated: image formats are compressed already.
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for image in images:
                archive.write(image, image.relative_to(path))
        yield SentFile(packed)
