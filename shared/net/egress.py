"""The only way to URLs that callers name: https, public addresses only, and it dials the address that it checked."""

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from ssl import SSLContext
from typing import Literal

import httpcore
import httpx

from shared.errors import ImageRejected, UrlUnreachable
from shared.net.address_policy import is_literal, is_public, origin_of, public_url

Resolve = Callable[[str, float], Sequence[str]]
Dial = Callable[[str, int, float], httpcore.NetworkStream]

HTTPS_PORT = 443
MAX_HOPS = 3
LOOKUP_S = 5.0  # one name, all its addresses
CONNECT_S = 5.0  # one address
MAX_RESPONSE_BYTES = 20_000  # of a response to `send`, that are kept
FETCH_S = 20.0  # one fetch: lookups, redirects, handshakes, and the last byte

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_IMAGE_HEADERS = (
    (b"User-Agent", b"trellis2-service"),
    (b"Accept", b"image/*"),
    (b"Accept-Encoding", b"identity"),
)
NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
)


def system_resolve(host: str, timeout_s: float) -> list[str]:
    """Resolve a host to all its addresses.

    The system's lookup cannot be canceled, so it runs in a thread that is abandoned after `timeout_s`.

    Raises:
        OSError: the name is unknown, or the lookup took too long.
    """
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            addresses = socket.getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
            answers.put([str(sockaddr[0]) for *_, sockaddr in addresses])
        except (OSError, UnicodeError) as error:
            answers.put(OSError(str(error)))

    threading.Thread(target=look_up, name="lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except Empty as error:
        raise TimeoutError(f"no address of {host} within {timeout_s} s") from error
    if isinstance(answer, OSError):
        raise answer
    return answer


def tcp_dial(address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:
    """Open a TCP connection to a literal address; nothing is resolved here."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=timeout_s)


@dataclass(frozen=True, slots=True)
class Response:
    """A server's response. headers: names in lower case. body: its first bytes, not decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Checks and fetches URLs from callers. Safe from any thread; it keeps no connection and no cookie.

    A URL that is not allowed and one that fails (no such name, refused, timed out, 404, 503) raise the same
    UrlUnreachable, never retryable: if a silent host were retried and a blocked one not, a caller could map our
    network. The caller may retry the job.
    """

    def __init__(
        self,
        *,
        resolve: Resolve = system_resolve,
        dial: Dial = tcp_dial,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: SSLContext | None = None,
        fetch_s: float = FETCH_S,
        private_origins: Collection[str] = (),
    ) -> None:
        """Set up the rules.

        Args:
            resolve: `resolve(host, timeout_s)`; raises OSError or an httpcore error.
            dial: `dial(address, port, timeout_s)`; raises OSError or an httpcore error.
            clock: a monotonic clock, in seconds.
            ssl_context: the trusted authorities; by default the public ones, whatever the environment says.
            fetch_s: bounds one fetch as a whole.
            private_origins: allowed although they are not public, such as `http://127.0.0.1:9000`: for receivers on
                a developer's machine.
        """
        self._resolve = resolve
        self._dial = dial
        self._clock = clock
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._fetch_s = fetch_s
        self._private = {_host_and_port(origin): origin for origin in map(str.lower, private_origins)}

    def check(self, url: str) -> None:
        """Refuse a URL that `fetch` would refuse before it dials: resolve its name, but open no connection.

        Raises:
            UrlUnreachable: the URL is not allowed, or its name has no address.
        """
        if self._is_private(url):
            return
        host = _parse_allowed(url).raw_host.decode()
        with _uniform_errors():
            self._public_addresses(host, LOOKUP_S)

    def fetch(self, url: str, *, max_bytes: int) -> bytes:
        """Fetch the body behind a URL, not decompressed. Follow MAX_HOPS redirects, each checked like the URL.

        Raises:
            UrlUnreachable: the URL, or one it redirects to, is not allowed or did not answer with 200 in time.
            ImageRejected: `image_too_large`, more than `max_bytes`; no more than that is ever in memory.
        """
        headers = [(b"Connection", b"close")]
        with (
            _uniform_errors(),
            self.pool(timeout_s=self._fetch_s) as pool,
            follow_redirects(pool, url, headers) as response,
        ):
            if response.status == 200:
                return _body(response, max_bytes)
        raise unreachable()

    def send(
        self,
        method: Literal["POST", "PUT"],
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes],
        size_bytes: int,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        timeout_s: float,
    ) -> Response:
        """Send a body; read the response's status and first bytes. Follow no redirects, decompress nothing.

        An iterator is read while it is sent; its errors pass through. `size_bytes` is the body's length. A response
        whose body is too long, slow or incomplete is cut there; its status counts.

        Raises:
            UrlUnreachable: the URL is not allowed, or no response started in time.
        """
        target = httpx.URL(url) if self._is_private(url) else _parse_allowed(url)
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        sent += [(b"Host", target.netloc), (b"Accept-Encoding", b"identity"), (b"Connection", b"close")]
        sent.append((b"Content-Length", b"%d" % size_bytes))
        address = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        with (
            _uniform_errors(),
            self.pool(timeout_s=timeout_s) as pool,
            pool.stream(method, address, headers=sent, content=body) as response,
        ):
            received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Response(response.status, received, _first_bytes(response, max_response_bytes))

    def _is_private(self, url: str) -> bool:
        return bool(self._private) and url.isprintable() and origin_of(url) in self._private.values()

    def deadline(self, timeout_s: float) -> "Deadline":
        """Make a deadline `timeout_s` from now, for a pool that is used more than once."""
        return Deadline(self._clock, timeout_s)

    def pool(self, *, timeout_s: float = 0.0, keep_alive: "Deadline | None" = None) -> httpcore.ConnectionPool:
        """Make a connection pool that obeys every rule on addresses for `timeout_s`; close it after use.

        It follows no redirects, adds no headers and uses no proxy. With `keep_alive` it keeps one connection for the
        next request and obeys that deadline, which the caller renews.
        """
        deadline = keep_alive or self.deadline(timeout_s)
        return httpcore.ConnectionPool(
            ssl_context=self._ssl_context,
            max_connections=1,
            max_keepalive_connections=1 if keep_alive else 0,
            retries=0,
            network_backend=_CheckedBackend(self._addresses, self._dial, deadline),
        )

    def _addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """Return the addresses that may be dialled for a host and a port. Raises ConnectError where there are none."""
        if (host, port) in self._private:
            return [host] if is_literal(host) else list(self._resolve(host, timeout_s))
        if port != HTTPS_PORT:
            raise httpcore.ConnectError(f"port {port} is not {HTTPS_PORT}")
        return self._public_addresses(host, timeout_s)

    def _public_addresses(self, host: str, timeout_s: float) -> list[str]:
        """Return every address of a host. Raises ConnectError unless there is one and all are public."""
        addresses = [host] if is_literal(host) else list(self._resolve(host, timeout_s))
        if not addresses or not all(is_public(address) for address in addresses):
            raise httpcore.ConnectError("not a public address")
        return addresses


class Deadline:
    """A deadline that all steps of a fetch share."""

    def __init__(self, clock: Callable[[], float], timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._ends_at = clock() + timeout_s

    def renew(self) -> None:
        """Restart the time, for the next fetch."""
        self._ends_at = self._clock() + self._timeout_s

    def left_s(self, at_most_s: float | None = None) -> float:
        """Return the seconds left, `at_most_s` at most. Raises httpcore.ReadTimeout if none are."""
        left = self._ends_at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for this URL is over")
        return left if at_most_s is None else min(left, at_most_s)


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves, checks and dials in one step, so that a second DNS answer cannot replace the checked address."""

    def __init__(self, addresses: Callable[[str, int, float], list[str]], dial: Dial, deadline: Deadline) -> None:
        self._addresses = addresses
        self._dial = dial
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - part of the interface; the pool never sets it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - likewise
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._addresses(host, port, self._deadline.left_s(LOOKUP_S)):
            try:
                stream = self._dial(address, port, self._deadline.left_s(timeout or CONNECT_S))
                return _TimedStream(stream, self._deadline)
            except (OSError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(f"no address of {host} answers") from failure


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step gets only the rest of the whole time: a server that sends slowly gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left_s(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left_s(timeout))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


@contextmanager
def _uniform_errors() -> Iterator[None]:
    """Turn every network error into the same UrlUnreachable."""
    try:
        yield
    except NETWORK_ERRORS as error:
        raise unreachable() from error


def unreachable() -> UrlUnreachable:
    """Make the one error for every URL that cannot be fetched, whatever the reason."""
    return UrlUnreachable("no image could be fetched from this URL", pointer="/image/url")


@contextmanager
def follow_redirects(
    pool: httpcore.ConnectionPool, url: str, headers: Sequence[tuple[bytes, bytes]]
) -> Iterator[httpcore.Response]:
    """GET a URL, and up to MAX_HOPS that it redirects to, each checked like the first; open the last response.

    Raises:
        UrlUnreachable: one of the URLs is not allowed, or there are too many.
        httpcore errors: as the pool raises them.
    """
    target = _parse_allowed(url)
    for _ in range(MAX_HOPS + 1):
        address = httpcore.URL(scheme=b"https", host=target.raw_host, port=HTTPS_PORT, target=target.raw_path)
        with pool.stream("GET", address, headers=[(b"Host", target.netloc), *_IMAGE_HEADERS, *headers]) as response:
            if response.status not in _REDIRECTS:
                yield response
                return
            target = _redirect_target(target, response)
    raise unreachable()


def _parse_allowed(url: str) -> httpx.URL:
    parsed = public_url(url)
    if parsed is None:
        raise unreachable()
    return parsed


def _redirect_target(base: httpx.URL, response: httpcore.Response) -> httpx.URL:
    location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
    try:
        return _parse_allowed(str(base.join(location.decode("ascii"))))
    except (UnicodeDecodeError, httpx.InvalidURL) as error:
        raise unreachable() from error


def _body(response: httpcore.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise ImageRejected(
                "image_too_large", f"the image behind the URL has more than {max_bytes:,} bytes", pointer="/image/url"
            )
    return bytes(body)


def _first_bytes(response: httpcore.Response, max_bytes: int) -> bytes:
    body = bytearray()
    with suppress(*NETWORK_ERRORS):
        for chunk in response.iter_stream():
            body += chunk
            if len(body) >= max_bytes:
                break
    return bytes(body[:max_bytes])


def _host_and_port(origin: str) -> tuple[str, int]:
    url = httpx.URL(origin)
    return url.raw_host.decode(), url.port or (HTTPS_PORT if url.scheme == "https" else 80)
