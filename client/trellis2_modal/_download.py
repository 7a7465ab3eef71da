"""Downloads artifacts: afterwards a complete and correct file exists at the target, or none."""

import hashlib
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import httpx

from trellis2_modal._http import Connection, Request
from trellis2_modal.errors import IntegrityError, NotReachable
from trellis2_modal.types.job import Artifact

TRIES = 3
_READ_BYTES = 1_000_000


async def download(
    connection: Connection, url: str, artifact: Artifact, target: Path, *, keep_partial: bool = False
) -> None:
    """Stream an artifact into `target`, which is replaced once all bytes have arrived and the sha256 matches.

    A download that breaks off is resumed where it ended (`Range`), until TRIES attempts in a row have brought no new
    bytes. With `keep_partial` the bytes of a failed download stay in the target's folder, and the next call resumes
    there.

    Raises:
        IntegrityError: no download matched the job record.
        NotReachable: the last attempt broke off.
        OSError: the folder cannot be written to.
    """
    run_blocking = connection.transport.run_blocking
    with await run_blocking(lambda: PartialFile(target, artifact.sha256, keep=keep_partial)) as file:
        failures, furthest = 0, file.size
        while failures < TRIES:
            broken = await _fetch_rest(connection, url, artifact, file)
            if file.is_correct:
                await run_blocking(file.replace_target)
                return
            failures = 1 if file.size > furthest else failures + 1
            furthest = max(furthest, file.size)
            if file.size >= artifact.bytes:
                await run_blocking(file.restart)  # complete but wrong: no byte of it can be trusted
            if broken and failures < TRIES:
                await connection.back_off(failures)
        if broken:
            raise NotReachable(f"the download of {target.name} broke off {TRIES} times") from broken
        raise IntegrityError(f"{target.name} never matched the sha256 of its job record in {TRIES} downloads")


async def _fetch_rest(
    connection: Connection, url: str, artifact: Artifact, file: "PartialFile"
) -> httpx.TransportError | None:
    """Append the missing bytes; return the error that broke the download off, if any."""
    # The service redirects to the store, which must not get our credentials.
    redirect = await connection.send(Request("GET", url))
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={file.size}-"} if file.size else {})
    try:
        async with connection.stream(Request("GET", redirect.headers["Location"], headers=headers)) as response:
            content_range = response.headers.get("Content-Range", "")
            if response.status_code != 206 or not content_range.startswith(f"bytes {file.size}-"):
                await connection.transport.run_blocking(file.restart)
            async for chunk in connection.transport.iter_bytes(response):
                await connection.transport.run_blocking(partial(file.append, chunk))
                if file.size > artifact.bytes:
                    break
    except httpx.TransportError as error:
        return error
    return None


class PartialFile:
    """The bytes that have arrived so far, in a file that no other process writes to. Use it in a `with`.

    At the end an incomplete file is removed, or with `keep` renamed after its sha256, where the next download finds it.
    """

    def __init__(self, target: Path, sha256: str, *, keep: bool) -> None:
        self._target = target
        self._sha256 = sha256
        self._kept = target.with_name(f".{target.name}.{sha256[:16]}.part") if keep else None
        self._path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        if self._kept:
            with suppress(FileNotFoundError):
                self._kept.replace(self._path)  # only one process can rename it, so only one resumes it
        self._file = self._path.open("a+b")
        self._digest, self.size = hashlib.sha256(), 0
        self._file.seek(0)
        while chunk := self._file.read(_READ_BYTES):
            self._count(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:  # on a full disk close fails as well, and the partial file must be removed all the same
            if self._kept and self.size and self._path.exists():
                self._path.replace(self._kept)
            self._path.unlink(missing_ok=True)

    @property
    def is_correct(self) -> bool:
        """Whether the bytes match the sha256."""
        return self._digest.hexdigest() == self._sha256

    def append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._count(chunk)

    def restart(self) -> None:
        """Discard all bytes."""
        self._file.truncate(0)
        self._digest, self.size = hashlib.sha256(), 0

    def replace_target(self) -> None:
        """Rename the file to the target, replacing what was there."""
        self._file.close()
        self._path.replace(self._target)

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
