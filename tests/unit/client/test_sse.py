"""Server-sent events as bytes become events."""

import pytest
from trellis2_modal._sse import ServerEvent, parse

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


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    """Lines end with LF or CRLF alone; an id lasts until the next one; no data, no event."""
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert list(parse(chunks)) == EVENTS


def test_event_that_is_cut_off_is_not_one() -> None:
    """Only an empty line makes an event."""
    assert list(parse([b"data: one\n\ndata: two\n"])) == [ServerEvent("one", "")]
