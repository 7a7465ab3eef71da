"""A server on loopback that forwards a browser's requests to the service, with credentials that the browser lacks.

It serves the browser of this machine only. A page of another site that is open in the same browser can reach loopback
as well. So a request must name this server as its host (against DNS rebinding), and a request that changes something
must come from a page of this server.
"""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from trellis2_modal._http import service_url
from trellis2_modal._transport import CONNECT_TIMEOUT_S
from trellis2_modal.client.credentials import headers

# Longer than a `wait` of 60 s, and than the 15 s between two comments of a stream.
SILENCE_S = 90.0
CHUNK_BYTES = 64 * 1024
_HOST_NAMES = ("localhost", "127.0.0.1")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_KEY_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})
_DROPPED_RESPONSE_HEADERS = _CONNECTION_HEADERS | {
    "content-encoding", "date", "server", "set-cookie", "strict-transport-security"
}  # fmt: skip
_TYPES_WITH_URLS = frozenset({"application/json", "application/problem+json", "text/event-stream"})


class LocalProxy(ThreadingHTTPServer):
    """The server, with a thread for each request; a browser opens `url`."""

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
        """Listen on loopback; port 0 selects a free one.

        Raises:
            UrlInvalid: `base_url` is not an http or https URL.
            OSError: the port is in use.
        """
        self.service = service_url(base_url)
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)
        self.http = httpx.Client(transport=transport, timeout=timeout, headers={"User-Agent": "trellis2-modal"})
        self._keys = (api_key, modal_key, modal_secret)
        super().__init__(("127.0.0.1", port), _ProxyHandler)
        self.url = f"http://localhost:{self.server_port}"
        self.hosts = frozenset(f"{name}:{self.server_port}" for name in _HOST_NAMES)

    def server_close(self) -> None:
        """Close the port and the connections."""
        super().server_close()
        self.http.close()

    def is_allowed(self, method: str, host: str, origin: str | None) -> bool:
        """Check a request's Host and, if it may change something, its Origin."""
        is_own_page = origin is None or origin in {f"http://{name}" for name in self.hosts}
        return host in self.hosts and (method in _SAFE_METHODS or is_own_page)

    def service_address(self, path: str) -> httpx.URL:
        """Map a path of this server to the service; no path leads to another host."""
        return self.service.join("./" + path.lstrip("/"))

    def auth_headers(self, typed_key: str | None) -> dict[str, str]:
        """Build the credentials for the service; an API key typed into the page overrides the environment's."""
        api_key, *modal = self._keys
        return headers(typed_key or api_key, *modal)


class _ProxyHandler(BaseHTTPRequestHandler):
    server: LocalProxy
    protocol_version = "HTTP/1.0"  # a response ends with its connection: streams need no framing

    def do_GET(self) -> None:
        proxy = self.server
        if not proxy.is_allowed(self.command, self.headers.get("Host", ""), self.headers.get("Origin")):
            self.send_error(403, "This page may not use the proxy")
            return
        try:
            with proxy.http.stream(
                self.command,
                proxy.service_address(self.path),
                headers=self._request_headers(),
                content=self._read_body() if self.headers.get("Content-Length") else None,
            ) as response:
                self._forward_response(response)
        except httpx.RequestError as error:
            self.send_error(502, f"{proxy.service.host} does not respond: {type(error).__name__}")
        except ConnectionError:
            self.close_connection = True  # the browser closed the connection

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def _request_headers(self) -> dict[str, str]:
        dropped = _CONNECTION_HEADERS | _KEY_HEADERS
        kept = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        if length := self.headers.get("Content-Length"):
            kept["Content-Length"] = length
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return {**kept, **self.server.auth_headers(self.headers.get("X-API-Key") or bearer)}

    def _read_body(self) -> Iterator[bytes]:
        left = int(self.headers["Content-Length"])
        while left and (chunk := self.rfile.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk

    def _forward_response(self, response: httpx.Response) -> None:
        """Forward a response, with the service's URL replaced by this server's: the page must stay on the proxy."""
        service, local = str(self.server.service).rstrip("/"), self.server.url
        has_urls = response.headers.get("Content-Type", "").partition(";")[0] in _TYPES_WITH_URLS
        self.send_response(response.status_code)
        for name, value in response.headers.multi_items():
            if name.lower() not in _DROPPED_RESPONSE_HEADERS:
                self.send_header(name, value.replace(service, local))
        if not has_urls and "Content-Encoding" not in response.headers and "Content-Length" in response.headers:
            self.send_header("Content-Length", response.headers["Content-Length"])
        self.end_headers()
        for chunk in _split_lines(response) if has_urls else response.iter_bytes():
            self.wfile.write(chunk.replace(service.encode(), local.encode()) if has_urls else chunk)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: URLs contain signatures."""


def _split_lines(response: httpx.Response) -> Iterator[bytes]:
    """Yield a body line by line, so that no URL is cut in two."""
    rest = b""
    for chunk in response.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    yield rest
