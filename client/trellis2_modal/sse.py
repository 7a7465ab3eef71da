"""Server-sent events, as the WHATWG standard frames them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `id` is what to send as Last-Event-ID to go on after it."""

    data: str
    id: str
    name: str = "message"


def parse(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events in a body; comments are skipped, an event that is cut off is not one."""
    data: list[str] = []
    name = last_id = ""
    for line in _lines(chunks):
        if not line:
            if data:
                yield ServerEvent("\n".join(data), last_id, name or "message")
            data, name = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, ended by LF or CRLF; unlike str.splitlines, nothing else that JSON may hold ends one."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
