"""Parsing of server-sent events."""

from collections.abc import Iterable

import pytest
from trellis2_modal._sse import EventReader, ServerEvent

STREAM = b"".join(
    [
        b": a comment\nretry: 2000\n\n",
        b"id: 1\nevent: job\ndata: one\ndata:two\n\n",
        b"id: 2\r\ndata: a\xe2\x80\xa8b\r\n\r\n",
        b"data:  c \n\n",
        b"id: 3\n\n",
    ]
)
EVENTS = [ServerEvent("one\ntwo", "1", "job"), ServerEvent("a\u2028b", "2"), ServerEvent(" c ", "2")]


def parse(chunks: Iterable[bytes]) -> list[ServerEvent]:
    """Read the events of a body."""
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_events_are_the_same_in_any_chunks(size: int) -> None:
    """Lines end with LF or CRLF; an id lasts until the next one; an event needs data."""
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert parse(chunks) == EVENTS


def test_truncated_event_is_ignored() -> None:
    """An event ends with an empty line."""
    assert parse([b"data: one\n\ndata: two\n"]) == [ServerEvent("one", "")]
