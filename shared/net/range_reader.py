"""Read the first bytes of many files behind URLs, from few servers, without fetching the files."""

import re
from dataclasses import dataclass
from typing import Self

import httpcore

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import UrlUnreachable
from shared.net.egress import NETWORK_ERRORS, Egress, follow_redirects, unreachable

READ_S = 10.0  # one file, with lookups, redirects and handshakes
_NO_CONNECTION = (httpcore.ConnectError, httpcore.ConnectTimeout)
_SIZE = re.compile(rb"bytes \d+-\d+/(\d+)")


class HostUnresponsive(UrlUnreachable):
    """No connection could be opened. API callers see its base class; a probe of many URLs stops trying the host."""


@dataclass(frozen=True, slots=True)
class FilePrefix:
    """A part of a file, from the requested offset on.

    size_bytes: the length of the whole file; where the server does not say it, the limit of an image. version: the
    ETag or the date of the last change; empty where the server sends neither.
    """

    head: bytes
    size_bytes: int
    version: str = ""


class RangeReader:
    """Reads one file after the other over connections that it keeps. For one thread at a time; close it after use.

    It obeys every rule of the egress: each address is checked when it is dialled, each redirect like the first URL.
    """

    def __init__(self, egress: Egress, *, timeout_s: float = READ_S) -> None:
        """`timeout_s` bounds one file."""
        self._egress = egress
        self._deadline = egress.deadline(timeout_s)
        self._pool = egress.pool(keep_alive=self._deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def read_prefix(self, url: str, length: int, *, offset: int = 0) -> FilePrefix:
        """Read `length` bytes of a file from `offset` on.

        Raises:
            UrlUnreachable: the URL, or one it redirects to, is not allowed or failed within the time.
            HostUnresponsive: likewise, and no connection could be opened.
        """
        self._deadline.renew()
        try:
            return self._request(url, offset, length)
        except _NO_CONNECTION as error:
            raise HostUnresponsive(str(unreachable()), pointer="/image/url") from error
        except NETWORK_ERRORS:  # the server may have closed the kept connection: try a new one
            try:
                return self._request(url, offset, length)
            except NETWORK_ERRORS as error:
                raise unreachable() from error

    def _request(self, url: str, offset: int, length: int) -> FilePrefix:
        headers = [(b"Range", b"bytes=%d-%d" % (offset, offset + length - 1))]
        with follow_redirects(self._pool, url, headers) as response:
            if response.status in (200, 206):
                return _read(response, offset, length)
        raise unreachable()


def _read(response: httpcore.Response, offset: int, length: int) -> FilePrefix:
    """Read the requested part; from a server without ranges, the start of the file up to it."""
    skipped = 0 if response.status == 206 else offset
    headers = {name.lower(): value for name, value in response.headers}
    size = _SIZE.fullmatch(headers.get(b"content-range", b""))
    declared = headers.get(b"content-length", b"")
    # An answer that is read to its end leaves the connection open for the next request.
    needed = skipped + length
    is_short = declared.isdigit() and int(declared[:15]) <= needed
    body, is_complete = bytearray(), True
    for chunk in response.iter_stream():
        body += chunk
        if len(body) >= needed and not is_short:
            is_complete = False
            break
    if response.status == 206:
        size_bytes = int(size[1]) if size else MAX_IMAGE_BYTES
    elif declared.isdigit():
        size_bytes = int(declared[:15])
    else:
        size_bytes = len(body) if is_complete else MAX_IMAGE_BYTES
    version = headers.get(b"etag") or headers.get(b"last-modified") or b""
    return FilePrefix(bytes(body[skipped : skipped + length]), size_bytes, version.decode("latin-1"))
