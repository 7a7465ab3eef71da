"""How a catalog and its images reach the service."""

import json
import os
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial as bound
from pathlib import Path
from typing import Any

from trellis2_modal._http import Connection, Request
from trellis2_modal._image import ImageFile
from trellis2_modal._job_request import UPLOAD_TIMEOUT_S, upload

FORM_BYTES = 4_000_000  # what travels in one request; larger files go to the store first
_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
PathLike = str | os.PathLike[str]


@asynccontextmanager
async def batch_call(
    connection: Connection,
    manifest: PathLike | None,
    images: PathLike | None,
    fields: Mapping[str, Any],
    *,
    key: str,
) -> AsyncIterator[Request]:
    """The call that submits a batch; large files are uploaded by the time it is given.

    A folder of images is packed into a zip, which lives as long as the `with`.

    Raises:
        OSError: a file cannot be read.
        InputRejected: one is longer than the service takes.
    """
    files = {"manifest": Path(manifest) if manifest else None, "images": Path(images) if images else None}
    with ExitStack() as stack:
        found: dict[str, ImageFile] = {}
        for name, path in files.items():
            if path:  # packing a folder takes its time
                found[name] = await connection.wire.aside(bound(stack.enter_context, _as_file(path)))
        small = {name: file for name, file in found.items() if file.size_bytes <= FORM_BYTES}
        form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        for name in found.keys() - small.keys():
            form[name] = await upload(connection, found[name], purpose=name)
        yield _as_form(form, small, key)


def _as_form(form: Mapping[str, str], files: Mapping[str, ImageFile], key: str) -> Request:
    @contextmanager
    def content() -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            parts = {name: (file.name, stack.enter_context(file.open())) for name, file in files.items()}
            # Without a file httpx would not send a form with parts.
            texts = {name: (None, value) for name, value in form.items()}
            yield {"files": {**texts, **parts}}

    headers = {"Idempotency-Key": key}
    return Request("POST", "v1/batches", headers=headers, content=content, read_timeout_s=UPLOAD_TIMEOUT_S)


@contextmanager
def _as_file(path: Path) -> Iterator[ImageFile]:
    """The file; of a folder, its images in a zip."""
    if not path.is_dir():
        yield ImageFile(path)
        return
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES and file.is_file())
    if not found:
        raise FileNotFoundError(f"{path} holds no images")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{path.resolve().name}.zip"
        # Stored as they are: images do not get smaller.
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in found:
                archive.write(file, file.relative_to(path))
        yield ImageFile(packed)
