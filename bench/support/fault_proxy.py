"""A proxy in front of a real S3 server that breaks its answers on demand.

    with FaultProxy(ceph.http_url) as proxy:
        proxy.rules.append(Rule(loses_answer, method="PUT", path="job.json", times=1))
        store = S3Store(replace(options, endpoint_url=proxy.url))

The first rule that matches a call decides; a call without a match passes unchanged. `proxy.calls` lists all calls.
"""

import http.client
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Self
from urllib.parse import urlsplit

_ABOUT_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Response:
    """The answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes


class ProxiedRequest:
    """One request. A fault forwards it or not, and sends an answer, a part of it, or none."""

    def __init__(self, handler: BaseHTTPRequestHandler, upstream: str, body: bytes, closing: threading.Event) -> None:
        self.method, self.path, self.body = handler.command, handler.path, body
        self.headers = handler.headers  # names in any case
        self._handler = handler
        self._upstream = upstream
        self._closing = closing

    def forward(self) -> Response:
        """Forward the request to the server."""
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request(self.method, self.path, self.body, dict(self.headers.items()))
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def send(self, answer: Response, *, cut_at: int | None = None) -> None:
        """Send an answer; with `cut_at` close the connection after that many bytes of the announced body."""
        handler = self._handler
        handler.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _ABOUT_THE_CONNECTION:
                handler.send_header(name, value)
        length = len(answer.body)
        if self.method == "HEAD":
            length = int(answer.headers.get("Content-Length", "0"))
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(answer.body[:cut_at])
        if cut_at is not None:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection."""
        self._handler.close_connection = True
        self._handler.wfile.flush()
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float | None) -> None:
        """Wait; with None until the proxy closes."""
        self._closing.wait(seconds)


Fault = Callable[[ProxiedRequest], None]


def pass_through(call: ProxiedRequest) -> None:
    """Forward the call without a fault."""
    call.send(call.forward())


def refuse(status: int, code: str) -> Fault:
    """Refuse with an S3 error, without calling the server."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode()
    return lambda call: call.send(Response(status, {"Content-Type": "application/xml"}, body))


def pretend_success(call: ProxiedRequest) -> None:
    """Answer with success, without calling the server."""
    call.send(Response(200, {"ETag": '"pretended"'}, b""))


def lose_response(call: ProxiedRequest) -> None:
    """Forward the call, then close the connection without an answer."""
    call.forward()
    call.hang_up()


def drop_connection(call: ProxiedRequest) -> None:
    """Close the connection, without calling the server."""
    call.hang_up()


def stay_silent(call: ProxiedRequest) -> None:
    """Send nothing until the proxy closes, without calling the server."""
    call.wait(None)
    call.hang_up()


def delay_response(seconds: float) -> Fault:
    """Answer late."""

    def delay(call: ProxiedRequest) -> None:
        call.wait(seconds)
        pass_through(call)

    return delay


def truncate_response(call: ProxiedRequest) -> None:
    """Announce the whole body and close the connection halfway."""
    answer = call.forward()
    call.send(answer, cut_at=len(answer.body) // 2)


def shorten_body(call: ProxiedRequest) -> None:
    """Send half of the body with a matching length."""
    answer = call.forward()
    call.send(Response(answer.status, answer.headers, answer.body[: len(answer.body) // 2]))


def flip_bit(call: ProxiedRequest) -> None:
    """Flip a bit in the middle of the body."""
    answer = call.forward()
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 1
    call.send(Response(answer.status, answer.headers, bytes(body)))


def shift_clock(by: timedelta) -> Fault:
    """Shift the server's Date header by so many seconds."""

    def shift(call: ProxiedRequest) -> None:
        answer = call.forward()
        for name, value in answer.headers.items():
            if name.lower() in {"date", "last-modified"}:
                answer.headers[name] = format_datetime(parsedate_to_datetime(value) + by, usegmt=True)
        call.send(answer)

    return shift


@dataclass
class Rule:
    """A fault for the calls of a method whose path contains `path`, at a rate, at most `times`."""

    fault: Fault
    method: str = ""
    path: str = ""
    rate: float = 1.0
    times: int | None = None

    def matches(self, method: str, path: str, chance: float) -> bool:
        """Whether this rule decides a call; counts it if so."""
        takes = self.method in {"", method} and self.path in path and chance < self.rate and self.times != 0
        if takes and self.times:
            self.times -= 1
        return takes


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that are gone: tests kill processes during a call."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass
class FaultProxy:
    """Listens on loopback inside its context. `upstream` is an http URL; `seed` decides which calls a rate hits."""

    upstream: str
    rules: list[Rule] = field(default_factory=list)
    seed: int = 1
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start listening."""
        self._random, self._lock, self._closing = Random(self.seed), threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL of the proxy."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _fault(self, method: str, path: str) -> Fault:
        with self._lock:
            self.calls.append((method, path))
            chance = self._random.random()
            return next((rule.fault for rule in self.rules if rule.matches(method, path, chance)), pass_through)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy, upstream = self, urlsplit(self.upstream).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_call(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                proxy._fault(self.command, self.path)(ProxiedRequest(self, upstream, body, proxy._closing))

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_call  # noqa: N815 - named by the server

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler
