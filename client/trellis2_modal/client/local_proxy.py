"""A server on loopback that passes a browser's requests on to the service, with credentials that the browser lacks.

It answers the browser of this machine alone. Another site's page that is open in the same browser can reach loopback,
too: so a request must name this server as its host (no rebound names), and whatever changes something must come from a
page of this server.
"""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from trellis2_modal._http import service_url
from trellis2_modal._transport import CONNECT_TIMEOUT_S
from trellis2_modal.client.credentials import headers

# Longer than a `wait` of 60 s, and than the 15 s between two comments of a stream.
SILENCE_S = 90.0
PIECE_BYTES = 64 * 1024
_NAMES = ("localhost", "127.0.0.1")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_KEYS = frozenset({"authorization", "x-api-key", "cookie"})
_NOT_BACK = _OF_THE_CONNECTION | {"content-encoding", "date", "server", "set-cookie", "strict-transport-security"}
_NAMING = frozenset({"application/json", "application/problem+json", "text/event-stream"})


class LocalProxy:
    """The server; `url` is where a browser finds it."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        modal_key: str | None = None,
        modal_secret: str | None = None,
        *,
        port: int,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Listen on loopback; port 0 takes a free one.

        Raises:
            UrlInvalid: `base_url` is none.
            OSError: the port is taken.
        """
        self.service = service_url(base_url)
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        self.http = httpx.Client(transport=transport, timeout=timeout, headers={"User-Agent": "trellis2-modal"})
        self._keys = (api_key, modal_key, modal_secret)
        self._server = _Server(("127.0.0.1", port), self)
        self.url = f"http://localhost:{self._server.server_port}"
        self.hosts = frozenset(f"{name}:{self._server.server_port}" for name in _NAMES)

    def serve_forever(self) -> None:
        """Answer until `close`, each request in a thread."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop answering."""
        self._server.server_close()
        self.http.close()

    def shutdown(self) -> None:
        """Make `serve_forever` return, from another thread."""
        self._server.shutdown()

    def admits(self, method: str, host: str, origin: str | None) -> bool:
        """Whether a request may pass: by its Host and, where it may change something, its Origin."""
        from_here = origin is None or origin in {f"http://{name}" for name in self.hosts}
        return host in self.hosts and (method in _SAFE or from_here)

    def there(self, path: str) -> httpx.URL:
        """Where a path of this server is at the service; always there, whatever the path looks like."""
        return self.service.join("./" + path.lstrip("/"))

    def onward(self, typed: str | None) -> dict[str, str]:
        """The credentials for the service; an API key typed into the page goes before the one of the environment."""
        api_key, *modal = self._keys
        return headers(typed or api_key, *modal)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], door: LocalProxy) -> None:
        self.door = door
        super().__init__(address, _Passing)


class _Passing(BaseHTTPRequestHandler):
    """One browser's connection."""

    server: _Server
    protocol_version = "HTTP/1.0"  # an answer ends with its connection: streams need no framing

    def do_GET(self) -> None:
        """Pass a request on and its answer back."""
        door = self.server.door
        if not door.admits(self.command, self.headers.get("Host", ""), self.headers.get("Origin")):
            self.send_error(403, "This page may not use the door")
            return
        try:
            with door.http.stream(
                self.command,
                door.there(self.path),
                headers=self._onward(),
                content=self._body() if self.headers.get("Content-Length") else None,
            ) as answer:
                self._answer(answer)
        except httpx.RequestError as error:
            self.send_error(502, f"{door.service.host} does not answer: {type(error).__name__}")
        except ConnectionError:
            self.close_connection = True  # the browser has left

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def _onward(self) -> dict[str, str]:
        given = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION | _KEYS}
        if length := self.headers.get("Content-Length"):
            given["Content-Length"] = length
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return {**given, **self.server.door.onward(self.headers.get("X-API-Key") or bearer)}

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers["Content-Length"])
        while left and (piece := self.rfile.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece

    def _answer(self, answer: httpx.Response) -> None:
        """The service names itself in its answers: a page that came through the door must go on through it."""
        door = self.server.door
        there, here = str(door.service).rstrip("/"), door.url
        names_itself = answer.headers.get("Content-Type", "").partition(";")[0] in _NAMING
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name.lower() not in _NOT_BACK:
                self.send_header(name, value.replace(there, here))
        if not names_itself and "Content-Encoding" not in answer.headers and "Content-Length" in answer.headers:
            self.send_header("Content-Length", answer.headers["Content-Length"])
        self.end_headers()
        for piece in _lines(answer) if names_itself else answer.iter_bytes():
            self.wfile.write(piece.replace(there.encode(), here.encode()) if names_itself else piece)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: URLs carry signatures."""


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """A body line by line, so that no URL is cut in two."""
    rest = b""
    for chunk in answer.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    yield rest
