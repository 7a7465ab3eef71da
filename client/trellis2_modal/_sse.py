"""Parses server-sent events as the WHATWG standard frames them, and the lines that they and JSON lines consist of.

The package httpx-sse does the same for events, but would be a second dependency and has no reader for plain lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; send its `id` as Last-Event-ID to continue after it."""

    data: str
    id: str
    name: str = "message"


@dataclass(slots=True)
class LineReader:
    """Splits chunks into lines that end with LF or CRLF; str.splitlines would also split at characters inside JSON."""

    _rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that end in this chunk."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


@dataclass(slots=True)
class EventReader:
    """Reads events from a body's chunks; skips comments, and an event that is cut off at the end."""

    _lines: LineReader = field(default_factory=LineReader)
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _last_id: str = ""

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Yield the events that end in this chunk."""
        for line in self._lines.feed(chunk):
            if line:
                self._read_field(line)
                continue
            if self._data:
                yield ServerEvent("\n".join(self._data), self._last_id, self._name or "message")
            self._data, self._name = [], ""

    def _read_field(self, line: str) -> None:
        field_name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field_name == "data":
            self._data.append(value)
        elif field_name == "event":
            self._name = value
        elif field_name == "id" and "\0" not in value:
            self._last_id = value
