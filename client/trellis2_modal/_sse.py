"""Server-sent events, as the WHATWG standard frames them; and the lines that they, and JSON lines, are made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `id` is what to send as Last-Event-ID to go on after it."""

    data: str
    id: str
    name: str = "message"


@dataclass(slots=True)
class LineReader:
    """Whole lines, ended by LF or CRLF; unlike str.splitlines, nothing else that JSON may hold ends one."""

    _rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The lines that end in this chunk."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


@dataclass(slots=True)
class EventReader:
    """Events from a body's bytes; comments are skipped, an event that is cut off is not one."""

    _lines: LineReader = field(default_factory=LineReader)
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _last_id: str = ""

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that end in this chunk."""
        for line in self._lines.feed(chunk):
            if line:
                self._take(line)
                continue
            if self._data:
                yield ServerEvent("\n".join(self._data), self._last_id, self._name or "message")
            self._data, self._name = [], ""

    def _take(self, line: str) -> None:
        field_name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field_name == "data":
            self._data.append(value)
        elif field_name == "event":
            self._name = value
        elif field_name == "id" and "\0" not in value:
            self._last_id = value


def parse(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events in a body."""
    reader = EventReader()
    for chunk in chunks:
        yield from reader.feed(chunk)
