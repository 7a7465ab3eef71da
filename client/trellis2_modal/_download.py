"""Fetching an artifact so that a whole, right file is there, or none."""

from functools import partial as bound
from pathlib import Path

import httpx

from trellis2_modal._download_file import Partial
from trellis2_modal._http import Connection, Request, Streamed
from trellis2_modal.errors import IntegrityError, NotReachable
from trellis2_modal.types.job import Artifact

TRIES = 3


async def download(
    connection: Connection, url: str, artifact: Artifact, target: Path, *, keep_partial: bool = False
) -> None:
    """Stream an artifact into `target`, which is replaced only once every byte is there and the sha256 is right.

    A download that breaks off goes on where it ended (`Range`), until TRIES in a row have brought nothing new. With
    `keep_partial` what has come stays beside the target when that was not enough, and the next call goes on from there.

    Raises:
        IntegrityError: what came was never what the job record says.
        NotReachable: the last of the downloads broke off.
        OSError: the folder cannot be written to.
    """
    aside = connection.wire.aside
    with await aside(lambda: Partial(target, artifact.sha256, keep=keep_partial)) as partial:
        failures, furthest = 0, partial.size
        while failures < TRIES:
            broken = await _go_on(connection, url, artifact, partial)
            if partial.is_right:
                await aside(partial.become_target)
                return
            failures = 1 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if partial.size >= artifact.bytes:
                await aside(partial.restart)  # all of it, and not right: none of it can be trusted
            if broken and failures < TRIES:
                await connection.pause(failures)
        if broken:
            raise NotReachable(f"the download of {target.name} broke off {TRIES} times") from broken
        raise IntegrityError(f"{target.name} never matched the sha256 of its job record in {TRIES} downloads")


async def _go_on(connection: Connection, url: str, artifact: Artifact, partial: Partial) -> httpx.TransportError | None:
    """Bring what is missing; what it broke off with, if it did."""
    located = await connection.send(
        Request("GET", url)
    )  # says where the bytes are; our credentials do not travel there
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={partial.size}-"} if partial.size else {})
    try:
        async with connection.stream(Request("GET", located.headers["Location"], headers=headers)) as answer:
            if not _goes_on_at(answer, partial.size):
                await connection.wire.aside(partial.restart)
            async for chunk in answer.chunks:
                await connection.wire.aside(bound(partial.add, chunk))
                if partial.size > artifact.bytes:
                    break
    except httpx.TransportError as error:
        return error
    return None


def _goes_on_at(answer: Streamed, first_byte: int) -> bool:
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {first_byte}-")
