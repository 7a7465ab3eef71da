"""Looks at the beginning of files behind URLs, many of them from few servers, without fetching them."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpcore
import httpx

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import UrlUnreachable
from shared.net.egress import MAX_HOPS, NETWORK_ERRORS, Egress, allowed, redirected, unreachable, wire_url

PEEK_S = 10.0  # one file, everything included
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_CONNECTION = (httpcore.ConnectError, httpcore.ConnectTimeout)
_SIZE = re.compile(rb"bytes \d+-\d+/(\d+)")


class HostUnresponsive(UrlUnreachable):
    """No connection came about; for callers the same as its base, for whoever has many more URLs a reason to stop."""


@dataclass(frozen=True, slots=True)
class FilePrefix:
    """The first bytes of a file and its whole length. tag: what the server calls this version; empty if nothing.

    size_bytes: where the server does not say it, what a picture may have at most.
    """

    head: bytes
    size_bytes: int
    version: str = ""


class RangeReader:
    """Peeks one file after the other over connections that it keeps. For one thread at a time; close it after use.

    It obeys every rule of the egress: each address is checked as it is dialled, each redirect like the first URL.
    """

    def __init__(self, egress: Egress, *, timeout_s: float = PEEK_S) -> None:
        """`timeout_s` bounds one file."""
        self._egress = egress
        self._deadline = egress.deadline(timeout_s)
        self._open = ExitStack()
        self._pool = self._open.enter_context(egress.pool(keeps=self._deadline))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def read_prefix(self, url: str, length: int, *, offset: int = 0) -> FilePrefix:
        """`length` bytes of a file from `offset` on.

        Raises:
            UrlUnreachable: the URL, or one it redirects to, is not allowed or did not answer well within the time.
            HostSilent: it is one of these, and no connection came about.
        """
        self._deadline.renew()
        try:
            return self._peek(url, offset, length)
        except _NO_CONNECTION as error:
            raise HostUnresponsive(str(unreachable()), pointer="/image/url") from error
        except NETWORK_ERRORS:  # the server may have closed what was kept: once more, over a fresh connection
            try:
                return self._peek(url, offset, length)
            except NETWORK_ERRORS as error:
                raise unreachable() from error

    def _peek(self, url: str, offset: int, length: int) -> FilePrefix:
        target = allowed(url)
        for _ in range(MAX_HOPS + 1):
            with self._pool.stream("GET", wire_url(target), headers=_headers(target, offset, length)) as response:
                if response.status in _REDIRECTS:
                    target = redirected(target, response)
                elif response.status in (200, 206):
                    return _read(response, offset, length)
                else:
                    break
        raise unreachable()


def _headers(url: httpx.URL, offset: int, length: int) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"trellis2-service"),
        (b"Accept", b"image/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Range", b"bytes=%d-%d" % (offset, offset + length - 1)),
    ]


def _read(response: httpcore.Response, offset: int, length: int) -> FilePrefix:
    """What was asked for, or the beginning of a whole file from a server that knows no ranges."""
    skipped = 0 if response.status == 206 else offset
    told = {name.lower(): value for name, value in response.headers}
    size = _SIZE.fullmatch(told.get(b"content-range", b""))
    declared = told.get(b"content-length", b"")
    # An answer that is read to its end leaves the connection for the next one.
    wanted = skipped + length
    is_short = declared.isdigit() and int(declared[:15]) <= wanted
    body, ended = bytearray(), True
    for chunk in response.iter_stream():
        body += chunk
        if len(body) >= wanted and not is_short:
            ended = False
            break
    if response.status == 206:
        size_bytes = int(size[1]) if size else MAX_IMAGE_BYTES
    elif declared.isdigit():
        size_bytes = int(declared[:15])
    else:
        size_bytes = len(body) if ended else MAX_IMAGE_BYTES
    tag = told.get(b"etag") or told.get(b"last-modified") or b""
    return FilePrefix(bytes(body[skipped : skipped + length]), size_bytes, tag.decode("latin-1"))
