"""What callers' URLs can and cannot make the service do."""

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest
import trustme

from shared.errors import ImageRejected, UrlUnreachable
from shared.net.address_policy import is_public
from shared.net.egress import Egress, Response, system_resolve, tcp_dial

PUBLIC = "93.184.215.14"
URL = "https://images.example.com/mug.png"
SENTENCE = "no image could be fetched from this URL"

INWARD_ADDRESSES = [
    "0.0.0.0",  # noqa: S104 - the unspecified address is what is being refused
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",  # Alibaba's metadata
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # Azure's platform services
    "169.254.169.254",  # metadata of AWS, Google and Azure
    "169.254.170.2",  # AWS's container credentials
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",  # Oracle's metadata
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible 127.0.0.1
    "::ffff:127.0.0.1",
    "::ffff:93.184.215.14",  # mapped: no honest name server answers so
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b::a9fe:a9fe",  # NAT64 of 169.254.169.254
    "64:ff9b:1::7f00:1",  # local-use NAT64
    "100::1",  # discard
    "2001::1",  # Teredo
    "2001:2::1",  # benchmarking
    "2001:20::1",  # ORCHID
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",  # AWS's metadata
    "fd20:ce::254",  # Google's metadata
    "fe80::1",
    "fe80::1%eth0",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c%eth0",
    "fec0::1",
    "ff02::1",
]

REFUSED_SPELLINGS = [
    "http://images.example.com/mug.png",
    "ftp://images.example.com/mug.png",
    "file:///etc/passwd",
    "gopher://images.example.com/",
    "//images.example.com/mug.png",
    "https:images.example.com",
    "https:///mug.png",
    "https://",
    "",
    "https://images.example.com:80/",
    "https://images.example.com:8443/",
    "https://images.example.com:0443/",
    "https://images.example.com:/",
    "https://images.example.com:\uff14\uff14\uff13/",  # full-width digits
    "https://user@images.example.com/",
    "https://user:secret@images.example.com/",
    "https://@images.example.com/",
    "https://images.example.com\\@127.0.0.1/",
    "https://images.example.com/\r\nHost: inward",
    "https://images.example.com/a\nb",
    "https://images.example.com/a\tb",
    "https://images.example.com/a b",
    "https://images.example.com/a\x00b",
    "https://images.example.com\r\n/",
    " https://images.example.com/",
    "https://images.example.com/\n",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.0x1/",
    "https://127.0.0.01/",
    "https://0/",
    "https://127.0.0.1./",
    "https://127%2e0%2e0%2e1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://1\uff127.0.0.1/",
    "https://[::1%25lo]/",
    "https://[127.0.0.1]/",
    "https://[::1/",
    "https://localhost/",
    "https://metadata/",
    "https://images.example.com./",
    "https://-images.example.com/",
    "https://images..example.com/",
    "https://*.example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://" + "abcdefgh." * 30 + "example.com/",
    "https://ex\u00adample\u200b.com/",
    "https://ex\u202eample.com/",
    "https://images.example.com/" + "a" * 2048,
]


def resolving(*addresses: str) -> Callable[[str, float], list[str]]:
    """A name server that gives every name the same addresses."""
    return lambda _host, _timeout_s: list(addresses)


class Canary:
    """A listener on loopback to which every dial leads, whatever the address; `visits` is who came."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.dialled: list[str] = []

    def dial(self, address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:
        self.dialled.append(f"{address} {port}")
        return tcp_dial(*self._listener.getsockname(), timeout_s)

    @property
    def visits(self) -> int:
        count = 0
        try:
            while True:
                self._listener.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    listener = Canary()
    yield listener
    listener.close()


def refusal(call: Callable[[], object]) -> tuple[str, str, str, bool]:
    """All that a caller sees of a refused URL."""
    with pytest.raises(UrlUnreachable) as caught:
        call()
    return caught.value.code, str(caught.value), caught.value.pointer, caught.value.retryable


REFUSAL = ("url_unreachable", SENTENCE, "/image/url", False)


@pytest.mark.parametrize("address", INWARD_ADDRESSES)
def test_fault_20_inward_address_behind_a_name_is_refused_and_never_dialled(address: str, canary: Canary) -> None:
    """A name that leads inward is refused at submit and at fetch, and no packet reaches the canary."""
    egress = Egress(resolve=resolving(address), dial=canary.dial)
    assert refusal(lambda: egress.check(URL)) == REFUSAL
    assert refusal(lambda: egress.fetch(URL, max_bytes=100)) == REFUSAL
    assert canary.visits == 0


@pytest.mark.parametrize("address", [address for address in INWARD_ADDRESSES if "%" not in address])
def test_fault_20_inward_address_as_the_host_is_refused_and_never_dialled(address: str, canary: Canary) -> None:
    """An inward address spelled out in the URL is refused too; the name server is not even asked."""
    host = f"[{address}]" if ":" in address else address
    egress = Egress(resolve=resolving(PUBLIC), dial=canary.dial)
    assert refusal(lambda: egress.check(f"https://{host}/mug.png")) == REFUSAL
    assert refusal(lambda: egress.fetch(f"https://{host}/mug.png", max_bytes=100)) == REFUSAL
    assert canary.visits == 0


@pytest.mark.parametrize("url", REFUSED_SPELLINGS)
def test_fault_20_spelling_that_hides_something_is_refused_and_never_dialled(url: str, canary: Canary) -> None:
    """Schemes, ports, credentials, control characters, numbers in disguise: refused, wherever the name would lead."""
    egress = Egress(resolve=resolving(PUBLIC), dial=canary.dial)
    assert refusal(lambda: egress.check(url)) == REFUSAL
    assert refusal(lambda: egress.fetch(url, max_bytes=100)) == REFUSAL
    assert canary.visits == 0


def test_fault_20_one_inward_address_among_public_ones_is_enough_to_refuse(canary: Canary) -> None:
    """Every address of a name must be public, not only the first."""
    egress = Egress(resolve=resolving(PUBLIC, "10.0.0.1"), dial=canary.dial)
    assert refusal(lambda: egress.check(URL)) == REFUSAL
    assert refusal(lambda: egress.fetch(URL, max_bytes=100)) == REFUSAL
    assert canary.visits == 0


def test_fault_20_name_that_re_resolves_inward_is_refused_at_the_fetch(canary: Canary) -> None:
    """A name that was public at submit and is loopback at fetch is refused: each fetch checks what it dials."""
    answers = [[PUBLIC], ["127.0.0.1"]]
    egress = Egress(resolve=lambda _host, _timeout_s: answers.pop(0), dial=canary.dial)
    egress.check(URL)
    assert refusal(lambda: egress.fetch(URL, max_bytes=100)) == REFUSAL
    assert canary.visits == 0


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1", "64:ff9b::808:808"]
)
def test_public_address_passes_the_check_without_a_connection(address: str, canary: Canary) -> None:
    """Public addresses pass, the neighbours of inward networks and NAT64 of a public address among them."""
    Egress(resolve=resolving(address), dial=canary.dial).check(URL)
    assert canary.visits == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.com",
        "HTTPS://Images.Example.com:443/a/b?c=d&e=%20#f",
        "https://münchen.example.de/bild.png",
        "https://my_shop.s3.example.com/mug.png",
        "https://93.184.215.14/mug.png",
        "https://[2606:4700::1]/mug.png",
    ],
)
def test_ordinary_url_passes_the_check(url: str, canary: Canary) -> None:
    """The rules do not stand in the way of the URLs that people have."""
    Egress(resolve=resolving(PUBLIC), dial=canary.dial).check(url)
    assert canary.visits == 0


# --- over real TLS, against a server on loopback


class Answers(BaseHTTPRequestHandler):
    """Serves what its path says."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        kind, _, argument = self.path.lstrip("/").partition("/")
        {
            "bytes": self._bytes,
            "gzip": self._gzip,
            "endless": self._endless,
            "to": self._redirect,
            "status": self._status,
        }[kind](argument)

    def do_POST(self) -> None:
        """As a GET of the same path, once the body is read; the body is among what was seen."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.do_GET()
        self.seen[-1][1]["(body)"] = body

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Set-Cookie": "a=b", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _bytes(self, count: str) -> None:
        self._answer(200, b"x" * int(count))

    def _gzip(self, count: str) -> None:
        self._answer(200, gzip.compress(b"x" * int(count)), Content_Encoding="gzip")

    def _endless(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
        except OSError:
            self.close_connection = True

    def _redirect(self, hops_and_path: str) -> None:
        """`/to/2/bytes/5` redirects to `/to/1/bytes/5`, that to `/bytes/5`; `/to/https:...` goes there."""
        hops, _, path = hops_and_path.partition("/")
        if not hops.isdigit():
            self._answer(302, Location=hops_and_path)
        elif int(hops) > 1:
            self._answer(302, Location=f"/to/{int(hops) - 1}/{path}")
        else:
            self._answer(307, Location=f"/{path}")

    def _status(self, status: str) -> None:
        self._answer(int(status), b"go away")

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class Host:
    """An HTTPS server on loopback that a scripted name server and dialler pass off as a public one."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (Answers,), {"seen": self.requests}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        self.server_names: list[str] = []
        context.sni_callback = lambda _socket, server_name, _context: self.server_names.append(server_name)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.dialled: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def dial(self, address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:
        self.dialled.append((address, port))
        return tcp_dial(*self.server.server_address[:2], timeout_s)

    def egress(self, resolve: Callable[[str, float], list[str]] | None = None) -> Egress:
        return Egress(resolve=resolve or resolving(PUBLIC), dial=self.dial, ssl_context=self.trust)

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def host(authority: trustme.CA) -> Iterator[Host]:
    server = Host(authority, "images.example.com")
    yield server
    server.close()


def test_fetch_dials_the_checked_address_and_verifies_the_name(host: Host) -> None:
    """The connection goes to the address that was checked; server name and certificate are those of the host."""
    assert host.egress().fetch("https://images.example.com/bytes/5", max_bytes=5) == b"xxxxx"
    assert host.dialled == [(PUBLIC, 443)]
    assert host.server_names == ["images.example.com"]
    assert host.requests[0][1]["host"] == "images.example.com"


def test_fetch_asks_for_no_compression_and_sends_nothing_of_ours(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity encoding, no cookie of an earlier answer, and no proxy of the environment."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    egress = host.egress()
    egress.fetch("https://images.example.com/bytes/1", max_bytes=5)
    egress.fetch("https://images.example.com/bytes/2", max_bytes=5)
    headers = host.requests[1][1]
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert headers["accept-encoding"] == "identity"


def test_certificate_of_another_name_is_unreachable(host: Host) -> None:
    """The certificate must be the host's, though the address is the right one."""
    assert refusal(lambda: host.egress().fetch("https://other.example.com/bytes/5", max_bytes=5)) == REFUSAL
    assert host.requests == []


def test_certificate_of_an_unknown_authority_is_unreachable(host: Host) -> None:
    """By default only public authorities are trusted."""
    egress = Egress(resolve=resolving(PUBLIC), dial=host.dial)
    assert refusal(lambda: egress.fetch("https://images.example.com/bytes/5", max_bytes=5)) == REFUSAL


def test_next_address_is_tried_when_one_does_not_answer(host: Host) -> None:
    """A host with several public addresses is reached over whichever answers."""

    def dial(address: str, port: int, timeout_s: float) -> httpcore.NetworkStream:
        if address == "2606:4700::1":
            raise httpcore.ConnectError("network unreachable")
        return host.dial(address, port, timeout_s)

    egress = Egress(resolve=resolving("2606:4700::1", PUBLIC), dial=dial, ssl_context=host.trust)
    assert egress.fetch("https://images.example.com/bytes/5", max_bytes=5) == b"xxxxx"


def test_three_redirects_are_followed(host: Host) -> None:
    """Three hops, each resolved and checked again."""
    assert host.egress().fetch("https://images.example.com/to/3/bytes/5", max_bytes=5) == b"xxxxx"
    assert len(host.dialled) == 4


def test_fourth_redirect_is_not_followed(host: Host) -> None:
    """A chain of four, and so every loop, is unreachable."""
    assert refusal(lambda: host.egress().fetch("https://images.example.com/to/4/bytes/5", max_bytes=5)) == REFUSAL
    assert [path for path, _ in host.requests][-1] == "/to/1/bytes/5"


@pytest.mark.parametrize(
    "location",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://inward.example.com/",
        "http://images.example.com/bytes/5",
        "https://images.example.com:8443/bytes/5",
        "https://user:secret@images.example.com/bytes/5",
        "https://2130706433/",
        "file:///etc/passwd",
        "//127.0.0.1/",
    ],
)
def test_fault_20_redirect_inward_is_refused_and_not_followed(location: str, host: Host) -> None:
    """A redirect gets no more freedom than the URL itself."""
    egress = host.egress(lambda name, _: ["10.0.0.1"] if name == "inward.example.com" else [PUBLIC])
    assert refusal(lambda: egress.fetch(f"https://images.example.com/to/{location}", max_bytes=5)) == REFUSAL
    assert host.dialled == [(PUBLIC, 443)]


def test_fault_20_name_that_re_resolves_inward_between_two_hops_is_refused(host: Host) -> None:
    """A redirect to the same name asks the name server again, and its new answer is checked."""
    answers = [[PUBLIC], ["127.0.0.1"]]
    egress = host.egress(lambda _host, _timeout_s: answers.pop(0))
    assert refusal(lambda: egress.fetch("https://images.example.com/to/1/bytes/5", max_bytes=5)) == REFUSAL
    assert host.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize("status", [204, 400, 401, 404, 410, 429, 500, 503])
def test_answer_other_than_200_is_unreachable_like_a_blocked_one(status: int, host: Host) -> None:
    """The refusal does not show what is behind the URL."""
    assert refusal(lambda: host.egress().fetch(f"https://images.example.com/status/{status}", max_bytes=9)) == REFUSAL


@pytest.mark.parametrize("path", ["bytes/6", "endless/"])
def test_body_over_the_limit_is_cut_while_it_streams(path: str, host: Host) -> None:
    """One byte too many, declared or not, is `image_too_large`; an endless body is not waited for."""
    with pytest.raises(ImageRejected) as caught:
        host.egress().fetch(f"https://images.example.com/{path}", max_bytes=5)
    assert caught.value.code == "image_too_large"


def test_compressed_body_stays_compressed(host: Host) -> None:
    """A server that compresses against our wish cannot make us unpack a bomb."""
    body = host.egress().fetch("https://images.example.com/gzip/100000", max_bytes=5_000)
    assert len(body) < 1_000
    assert gzip.decompress(body) == b"x" * 100_000


# --- what a network does wrong


class Drip(httpcore.NetworkStream):
    """An answer that comes one byte a second, on a clock of its own."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.now_s = 0.0
        self.sent = 0
        self.allowed_s: list[float | None] = []

    def clock(self) -> float:
        return self.now_s

    def dial(self, _address: str, _port: int, _timeout_s: float) -> httpcore.NetworkStream:
        return self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the interface
        self.allowed_s.append(timeout)
        self.now_s += 1.0
        self.sent += 1
        return self._answer[self.sent - 1 : self.sent]

    def write(self, buffer: bytes, timeout: float | None = None) -> None: ...

    def start_tls(self, *_: object) -> httpcore.NetworkStream:
        return self

    def close(self) -> None: ...

    def get_extra_info(self, info: str) -> object:  # noqa: ARG002 - the interface
        return None


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_dripping_answer_is_cut_when_the_whole_time_is_over(head: bytes) -> None:
    """Bytes that keep coming, in the header or in the body, do not extend the deadline."""
    drip = Drip(head + b"HTTP/1.1 200 OK\r\n" * 100)
    egress = Egress(resolve=resolving(PUBLIC), dial=drip.dial, clock=drip.clock, fetch_s=60)
    assert refusal(lambda: egress.fetch(URL, max_bytes=10_000)) == REFUSAL
    assert drip.sent == 60
    assert drip.allowed_s[-1] == 1.0


def test_slow_name_server_uses_up_the_time_of_the_fetch() -> None:
    """Lookups count: after a slow one nothing is dialled any more."""
    drip = Drip(b"")
    allowed_s: list[float] = []

    def resolve(_host: str, timeout_s: float) -> list[str]:
        allowed_s.append(timeout_s)
        drip.now_s += timeout_s
        return [PUBLIC]

    egress = Egress(resolve=resolve, dial=drip.dial, clock=drip.clock, fetch_s=3)
    assert refusal(lambda: egress.fetch(URL, max_bytes=100)) == REFUSAL
    assert (allowed_s, drip.sent) == ([3.0], 0)


def raising(error: Exception) -> Callable[..., list[str]]:
    def fail(*_: object) -> list[str]:
        raise error

    return fail


def test_unknown_name_refused_connection_and_blocked_address_look_alike() -> None:
    """The answer says nothing about the internal network."""
    answers = {
        refusal(lambda: Egress(resolve=raising(socket.gaierror("unknown"))).fetch(URL, max_bytes=1)),
        refusal(lambda: Egress(resolve=raising(socket.gaierror("unknown"))).check(URL)),
        refusal(lambda: Egress(resolve=resolving()).check(URL)),
        refusal(lambda: Egress(resolve=resolving("10.0.0.1")).check(URL)),
        refusal(
            lambda: Egress(resolve=resolving(PUBLIC), dial=raising(ConnectionRefusedError())).fetch(URL, max_bytes=1)
        ),
        refusal(lambda: Egress(resolve=resolving(PUBLIC), dial=raising(TimeoutError())).fetch(URL, max_bytes=1)),
    }
    assert answers == {REFUSAL}


def test_dial_without_a_script_reaches_the_canary() -> None:
    """The canary of the tests above would notice a visit."""
    canary = Canary()
    refusal(lambda: Egress(resolve=resolving(PUBLIC), dial=canary.dial, fetch_s=0.2).fetch(URL, max_bytes=1))
    assert (canary.visits, canary.dialled) == (1, [f"{PUBLIC} 443"])
    canary.close()


def test_system_lookup_gives_addresses_that_the_check_refuses() -> None:
    """The real resolver is wired in: what it says of loopback is loopback."""
    found = system_resolve("localhost", 5.0)
    assert "127.0.0.1" in found
    assert not any(is_public(address) for address in found)


def test_system_lookup_of_an_unknown_name_is_an_error() -> None:
    """A failed lookup comes out of its thread as an error."""
    with pytest.raises(OSError, match=r".+"):
        system_resolve("a" * 64 + ".invalid", 5.0)


# --- webhooks


def post(egress: Egress, url: str, *, max_response_bytes: int = 100, timeout_s: float = 5) -> Response:
    """Send a small message."""
    return egress.send(
        "POST",
        url,
        headers={"X-Own": "1"},
        body=b"hello",
        size_bytes=5,
        max_response_bytes=max_response_bytes,
        timeout_s=timeout_s,
    )


def test_post_goes_to_the_checked_address_over_verified_tls(host: Host) -> None:
    """With our headers, the body, and nothing else of ours."""
    answer = post(host.egress(), "https://images.example.com/bytes/5")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"xxxxx", "5")
    path, headers = host.requests[0]
    assert (path, headers["x-own"], headers["(body)"]) == ("/bytes/5", "1", "hello")
    assert set(headers) == {"host", "x-own", "accept-encoding", "connection", "content-length", "(body)"}
    assert (host.dialled, host.server_names) == ([(PUBLIC, 443)], ["images.example.com"])


def test_fault_16_answer_to_a_post_is_cut_and_neither_decompressed_nor_followed(host: Host) -> None:
    """Of an endless one the first bytes; a bomb as it was sent; a redirect is an answer like any other."""
    egress = host.egress()
    assert post(egress, "https://images.example.com/endless/", max_response_bytes=2_000).body == b"x" * 2_000
    bomb = post(egress, "https://images.example.com/gzip/1000000", max_response_bytes=20_000)
    assert (bomb.body[:2], len(bomb.body) < 20_000) == (b"\x1f\x8b", True)
    assert post(egress, "https://images.example.com/to/1/bytes/5").status == 307
    assert [path for path, _ in host.requests] == ["/endless/", "/gzip/1000000", "/to/1/bytes/5"]


@pytest.mark.parametrize("url", ["https://other.example.com/", "http://images.example.com/", "https://127.0.0.1/"])
def test_post_that_may_not_be_or_is_not_who_it_says_is_unreachable(host: Host, url: str) -> None:
    """A certificate of another name, plain HTTP, an inward address: all alike, and no request arrives."""
    assert refusal(lambda: post(host.egress(), url)) == REFUSAL
    assert host.requests == []


def test_private_origin_is_that_one_and_no_other(canary: Canary) -> None:
    """Scheme, host and port must be those that were allowed; credentials and lookalikes are refused."""
    egress = Egress(resolve=resolving(PUBLIC), dial=canary.dial, private_origins=["http://127.0.0.1:9000"])
    egress.check("http://127.0.0.1:9000/hook?a=b")
    for url in (
        "http://127.0.0.1:9001/",
        "https://127.0.0.1:9000/",
        "http://127.0.0.1:9000@example.com/",
        "http://user@127.0.0.1:9000/",
        "http://127.0.0.1:90000/",
        "http://127.0.0.1:9000.example.com/",
        "http://localhost:9000/",
    ):
        assert refusal(lambda url=url: egress.check(url)) == REFUSAL
        assert refusal(lambda url=url: post(egress, url)) == REFUSAL
    assert canary.visits == 0
