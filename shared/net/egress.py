"""The only way out to URLs that callers name: https to public addresses, and it dials the very address it checked."""

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from ssl import SSLContext

import httpcore
import httpx

from shared.errors import ImageRejected, UrlUnreachable
from shared.net.address_policy import is_literal, is_public, origin_of, public_url

Resolve = Callable[[str, float], Sequence[str]]
Dial = Callable[[str, int, float], httpcore.NetworkStream]

HTTPS_PORT = 443
MAX_HOPS = 3
LOOKUP_S = 5.0  # one name, every address of it
CONNECT_S = 5.0  # one address
FETCH_S = 20.0  # everything: lookups, hops, handshakes, and the last byte

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
NETWORK_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
)


def system_resolve(host: str, timeout_s: float) -> list[str]:
    """Every address the system knows for a host.

    The system's lookup cannot be stopped, so it runs in a thread that is left behind once `timeout_s` are over.

    Raises:
        OSError: the name is unknown, or the answer took too long.
    """
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
            answers.put([str(sockaddr[0]) for *_, sockaddr in found])
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
    """Open a TCP connection to an address; a literal one, so nothing is resolved here."""
    return httpcore.SyncBackend().connect_tcp(address, port, timeout=timeout_s)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said; `body` is the first of it, as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Checks and fetches URLs that came from outside. Safe from any thread; it keeps no connection and no cookie.

    A URL that is not allowed and one where nothing answers well (no such name, refused, timed out, 404, 503) give the
    same UrlUnreachable, never retryable: were a silent host retried and a blocked one not, the two could be told apart.
    The caller may retry the job.
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
        """`resolve(host, timeout_s)` and `dial(address, port, timeout_s)` raise OSError or an httpcore error.

        `clock` counts seconds. `ssl_context` decides whom to trust; by default the public authorities, whatever the
        environment says. `fetch_s` bounds one fetch as a whole. `private_origins`, such as `http://127.0.0.1:9000`,
        are allowed although no rule would allow them: for receivers on a developer's own machine.
        """
        self._resolve = resolve
        self._dial = dial
        self._clock = clock
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._fetch_s = fetch_s
        self._private = {_host_and_port(origin): origin for origin in map(str.lower, private_origins)}

    def check(self, url: str) -> None:
        """Refuse a URL that `fetch` would refuse before it dials. Resolves the name; opens no connection.

        Raises:
            UrlUnreachable: the URL is not allowed, or its name has no address.
        """
        if self._is_private(url):
            return
        host = allowed(url).raw_host.decode()
        with _one_answer():
            self._public_addresses(host, LOOKUP_S)

    def fetch(self, url: str, *, max_bytes: int) -> bytes:
        """The body behind a URL as it was sent: nothing is decompressed. Follows MAX_HOPS redirects, each checked anew.

        Raises:
            UrlUnreachable: the URL, or one it redirects to, is not allowed or did not answer 200 within the time.
            PictureRejected: `image_too_large`, more than `max_bytes`; no more than that is ever held.
        """
        target = allowed(url)
        with _one_answer(), self.pool(timeout_s=self._fetch_s) as pool:
            for _ in range(MAX_HOPS + 1):
                with pool.stream("GET", wire_url(target), headers=_headers(target)) as response:
                    if response.status in _REDIRECTS:
                        target = redirected(target, response)
                    elif response.status == 200:
                        return _body(response, max_bytes)
                    else:
                        break
        raise unreachable()

    def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, max_answer_bytes: int, timeout_s: float
    ) -> Answer:
        """Send a body and read the answer's status and first bytes: nothing is followed, nothing decompressed.

        An answer whose body is long, slow or broken off is cut there; its status counts all the same.

        Raises:
            UrlUnreachable: the URL is not allowed, or no answer began within the time.
        """
        return self._send("POST", url, headers, body, len(body), max_answer_bytes, timeout_s)

    def put(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Iterator[bytes],
        size_bytes: int,
        max_answer_bytes: int,
        timeout_s: float,
    ) -> Answer:
        """As `post`, for a body of known length that is read as it is sent; its errors pass through."""
        return self._send("PUT", url, headers, body, size_bytes, max_answer_bytes, timeout_s)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterator[bytes],
        size_bytes: int,
        max_answer_bytes: int,
        timeout_s: float,
    ) -> Answer:
        target = httpx.URL(url) if self._is_private(url) else allowed(url)
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        sent += [(b"Host", target.netloc), (b"Accept-Encoding", b"identity"), (b"Connection", b"close")]
        sent.append((b"Content-Length", b"%d" % size_bytes))
        wire = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        with (
            _one_answer(),
            self.pool(timeout_s=timeout_s) as pool,
            pool.stream(method, wire, headers=sent, content=body) as response,
        ):
            told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, told, _first_bytes(response, max_answer_bytes))

    def _is_private(self, url: str) -> bool:
        return bool(self._private) and url.isprintable() and origin_of(url) in self._private.values()

    def deadline(self, timeout_s: float) -> "Deadline":
        """A moment `timeout_s` from now, for a pool that is used more than once."""
        return Deadline(self._clock, timeout_s)

    def pool(self, *, timeout_s: float = 0.0, keeps: "Deadline | None" = None) -> httpcore.ConnectionPool:
        """Connections that obey every rule on addresses and end `timeout_s` from now; close it after use.

        It follows no redirect, sends no header of its own accord, and knows no proxy. With `keeps` it keeps one
        connection for the next request, and goes by that deadline, which whoever uses it renews.
        """
        deadline = keeps or self.deadline(timeout_s)
        return httpcore.ConnectionPool(
            ssl_context=self._ssl_context,
            max_connections=1,
            max_keepalive_connections=1 if keeps else 0,
            retries=0,
            network_backend=_CheckedBackend(self._addresses, self._dial, deadline),
        )

    def _addresses(self, host: str, port: int, timeout_s: float) -> list[str]:
        """What may be dialled for a host and a port; ConnectError where nothing may."""
        if (host, port) in self._private:
            return [host] if is_literal(host) else list(self._resolve(host, timeout_s))
        if port != HTTPS_PORT:
            raise httpcore.ConnectError(f"port {port} is not {HTTPS_PORT}")
        return self._public_addresses(host, timeout_s)

    def _public_addresses(self, host: str, timeout_s: float) -> list[str]:
        """Every address of a host; ConnectError unless there are some and all of them are public."""
        addresses = [host] if is_literal(host) else list(self._resolve(host, timeout_s))
        if not addresses or not all(is_public(address) for address in addresses):
            raise httpcore.ConnectError("not a public address")
        return addresses


class Deadline:
    """One moment that all steps of a fetch share."""

    def __init__(self, clock: Callable[[], float], timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._ends_at = clock() + timeout_s

    def renew(self) -> None:
        """Begin anew: another fetch."""
        self._ends_at = self._clock() + self._timeout_s

    def left_s(self, at_most_s: float | None = None) -> float:
        """Seconds until then, `at_most_s` at most. Raises httpcore.ReadTimeout where it is past."""
        left = self._ends_at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for this URL is over")
        return left if at_most_s is None else min(left, at_most_s)


class _CheckedBackend(httpcore.NetworkBackend):
    """Resolves, checks and dials in one step, so that no second answer of a name server can come between."""

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
    """A stream whose every step is given only what is left of the whole time: dripping buys nothing."""

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
def _one_answer() -> Iterator[None]:
    """Whatever went wrong on the way, the caller reads the same sentence."""
    try:
        yield
    except NETWORK_ERRORS as error:
        raise unreachable() from error


def unreachable() -> UrlUnreachable:
    """The one error for every URL that cannot be had, whatever the reason."""
    return UrlUnreachable("no picture could be fetched from this URL", pointer="/image/url")


def allowed(url: str) -> httpx.URL:
    """A URL that may be asked for, as far as its text tells. Raises UrlUnreachable."""
    parsed = public_url(url)
    if parsed is None:
        raise unreachable()
    return parsed


def wire_url(url: httpx.URL) -> httpcore.URL:
    """A checked URL as the connections want it."""
    return httpcore.URL(scheme=b"https", host=url.raw_host, port=HTTPS_PORT, target=url.raw_path)


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"trellis2-service"),
        (b"Accept", b"image/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]


def redirected(base: httpx.URL, response: httpcore.Response) -> httpx.URL:
    """Where a redirect leads, checked like the first URL. Raises UrlUnreachable."""
    location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
    try:
        return allowed(str(base.join(location.decode("ascii"))))
    except (UnicodeDecodeError, httpx.InvalidURL) as error:
        raise unreachable() from error


def _body(response: httpcore.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise ImageRejected(
                "image_too_large", f"the picture behind the URL is over {max_bytes:,} bytes", pointer="/image/url"
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
