"""Fetching an artifact so that a whole, right file is there, or none."""

import hashlib
import secrets
from pathlib import Path

import httpx

from trellis2_modal.connection import Call, Connection
from trellis2_modal.errors import IntegrityError, NotReachable
from trellis2_modal.job import Artifact

TRIES = 3


def download(connection: Connection, url: str, artifact: Artifact, target: Path) -> None:
    """Stream an artifact into `target`, which is replaced only once every byte is there and the sha256 is right.

    Raises:
        IntegrityError: what came was never what the job record says.
        NotReachable: the last of TRIES downloads broke off.
        OSError: the folder cannot be written to.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    broken: httpx.TransportError | None = None
    try:
        for _ in range(TRIES):
            try:
                digest, broken = _stream_into(connection, url, partial), None
            except httpx.TransportError as error:
                broken = error
                continue
            if digest == artifact.sha256:
                partial.replace(target)
                return
    finally:
        partial.unlink(missing_ok=True)
    if broken:
        raise NotReachable(f"the download of {target.name} broke off {TRIES} times") from broken
    raise IntegrityError(f"{target.name} never matched the sha256 of its job record in {TRIES} downloads")


def _stream_into(connection: Connection, url: str, path: Path) -> str:
    """The sha256 of what was written. The service says where the bytes are; its credentials do not travel there."""
    located = connection.send(Call("GET", url))
    digest = hashlib.sha256()
    call = Call("GET", located.headers["Location"], headers={"Accept-Encoding": "identity"})
    with path.open("wb") as file, connection.stream(call) as response:
        for chunk in response.iter_bytes():
            file.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()
