"""The beginnings of files behind URLs are looked at without fetching them, under every rule of the egress."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme

from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.errors import UrlUnreachable
from shared.net.egress import Egress, tcp_dial
from shared.net.range_reader import RangeReader

BODY = bytes(range(256)) * 400
HOST = "https://shop.example.com"


class ImageServer:
    """A web server over TLS: `/range` knows ranges, `/whole` does not, `/endless` never says how long it is."""

    def __init__(self) -> None:
        self.connections = 0
        self.sent: list[str] = []
        self.closes_after_each = False
        outer = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                outer.sent.append(self.path)
                getattr(outer, self.path.strip("/").replace("-", "_"))(self)
                self.close_connection = self.close_connection or outer.closes_after_each

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        authority = trustme.CA()
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("shop.example.com").configure_cert(context)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def egress(self, *addresses: str) -> Egress:
        """The way there; names have these addresses, a public one by default."""
        return Egress(
            resolve=lambda _host, _timeout_s: addresses or ("93.184.215.14",),
            dial=lambda _address, _port, timeout_s: tcp_dial("127.0.0.1", self._server.server_port, timeout_s),
            ssl_context=self.trust,
        )

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _say(self, handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Connection" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def range(self, handler: BaseHTTPRequestHandler) -> None:
        first, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        part = BODY[first : last + 1]
        total = f"bytes {first}-{first + len(part) - 1}/{len(BODY)}"
        self._say(handler, 206, part, Content_Range=total, ETag='"v1"')

    def whole(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 200, BODY)

    def endless(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 200, BODY, Connection="close")
        handler.close_connection = True

    def moved(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 302, Location="/range")

    def inward(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 302, Location="http://169.254.169.254/latest")

    def round_and_round(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 302, Location="/round-and-round")

    def gone(self, handler: BaseHTTPRequestHandler) -> None:
        self._say(handler, 404)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A server, closed after the test."""
    open_ = ImageServer()
    yield open_
    open_.close()


def test_only_the_beginning_is_fetched(server: ImageServer) -> None:
    """With the whole length and the version, as the server says them."""
    with RangeReader(server.egress()) as reader:
        prefix = reader.read_prefix(f"{HOST}/range", 1_000)
    assert (prefix.head, prefix.size_bytes, prefix.version) == (BODY[:1_000], len(BODY), '"v1"')


def test_more_of_a_file_can_be_read(server: ImageServer) -> None:
    """From any place, whether the server knows ranges or not."""
    with RangeReader(server.egress()) as reader:
        assert reader.read_prefix(f"{HOST}/range", 100, offset=5_000).head == BODY[5_000:5_100]
        assert reader.read_prefix(f"{HOST}/whole", 100, offset=5_000).head == BODY[5_000:5_100]


def test_a_server_that_knows_no_ranges_is_left_after_the_beginning(server: ImageServer) -> None:
    """Its length counts where it says one; else the limit of an image."""
    with RangeReader(server.egress()) as reader:
        whole = reader.read_prefix(f"{HOST}/whole", 1_000)
        endless = reader.read_prefix(f"{HOST}/endless", 1_000)
    assert (whole.head, whole.size_bytes) == (BODY[:1_000], len(BODY))
    assert (endless.head, endless.size_bytes) == (BODY[:1_000], MAX_IMAGE_BYTES)


def test_one_connection_serves_many_files(server: ImageServer) -> None:
    """A catalog's images are on few servers."""
    with RangeReader(server.egress()) as reader:
        for _ in range(20):
            reader.read_prefix(f"{HOST}/range", 100)
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_opened_again(server: ImageServer) -> None:
    """Without the row noticing."""
    server.closes_after_each = True
    with RangeReader(server.egress()) as reader:
        heads = [reader.read_prefix(f"{HOST}/range", 10).head for _ in range(5)]
    assert heads == [BODY[:10]] * 5


def test_redirects_are_followed_under_the_same_rules(server: ImageServer) -> None:
    """Three hops; none of them inward."""
    with RangeReader(server.egress()) as reader:
        assert reader.read_prefix(f"{HOST}/moved", 10).head == BODY[:10]
        for path in ("inward", "round-and-round", "gone"):
            with pytest.raises(UrlUnreachable):
                reader.read_prefix(f"{HOST}/{path}", 10)
    assert server.sent.count("/round-and-round") == 4


@pytest.mark.parametrize(
    "url", ["http://shop.example.com/range", f"{HOST}:8443/range", "https://user@shop.example.com/"]
)
def test_a_url_that_is_not_allowed_is_not_dialled(server: ImageServer, url: str) -> None:
    """By its text."""
    with RangeReader(server.egress()) as reader, pytest.raises(UrlUnreachable):
        reader.read_prefix(url, 10)
    assert server.connections == 0


def test_a_name_with_an_inward_address_is_not_dialled(server: ImageServer) -> None:
    """By what it resolves to, at every connection."""
    with RangeReader(server.egress("10.0.0.1")) as reader, pytest.raises(UrlUnreachable):
        reader.read_prefix(f"{HOST}/range", 10)
    assert server.connections == 0
