"""The command `trellis2 webhooks listen`: receive the service's events on this machine."""

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from queue import SimpleQueue
from time import monotonic
from typing import Any

import httpx

from trellis2_modal._http import service_url
from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.parsers import WrongUsage
from trellis2_modal.cli.thread_pool import take
from trellis2_modal.client import Client
from trellis2_modal.errors import InputRejected, TrellisError, UrlInvalid
from trellis2_modal.resources.webhooks import Webhooks
from trellis2_modal.webhooks import WebhookEvent, WebhookInvalid, verify

FORWARD_TIMEOUT_S = 15.0  # the service waits as long for a response
MAX_BODY_BYTES = 1_000_000  # an event has 20 kB at most
DESCRIPTION = "trellis2 webhooks listen"
_FORWARDED_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "traceparent")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message: its event or the reason why it was refused, and the receiver's response if it was forwarded."""

    at: datetime
    event: WebhookEvent | None
    refusal: str = ""
    is_repeat: bool = False
    status: int | None = None
    duration_ms: int = 0

    @property
    def body(self) -> dict[str, Any]:
        content = asdict(self.event) if self.event else {}
        forwarded = {"forwarded": {"status": self.status, "duration_ms": self.duration_ms}} if self.duration_ms else {}
        refused = {"refused": self.refusal} if self.refusal else {}
        return {"received_at": self.at.isoformat(), "repeat": self.is_repeat, **content, **forwarded, **refused}

    @property
    def line(self) -> str:
        """The message as one line: time, type, job, status, event id, repeat, and the receiver's response."""
        if self.event is None:
            return f"{self.at.astimezone():%H:%M:%S}  refused: {self.refusal}"
        data = self.event.data
        parts = [self.event.type, str(data.get("id") or ""), str(data.get("status") or ""), self.event.id]
        parts += ["again"] if self.is_repeat else []
        if self.duration_ms:
            parts.append(f"-> {self.status or 'no answer'}, {self.duration_ms} ms")
        return "  ".join([f"{self.at.astimezone():%H:%M:%S}", *filter(None, parts)])


class Receiver:
    """Verifies and forwards messages. Safe from any thread."""

    def __init__(self, secret: str, forward_to: str | None, now: Callable[[], datetime]) -> None:
        self._secret = secret
        self._forward_to = forward_to
        self._now = now
        self._seen: set[str] = set()

    def receive(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, ReceivedMessage]:
        """Verify and forward a message; return the response's status and the message."""
        at = self._now()
        try:
            event = verify(body, headers, self._secret, clock=at.timestamp)
        except WebhookInvalid as error:
            return 400, ReceivedMessage(at, None, str(error))
        is_repeat = event.id in self._seen
        self._seen.add(event.id)
        if not self._forward_to:
            return 204, ReceivedMessage(at, event, is_repeat=is_repeat)
        started_at = monotonic()
        status = self._forward(self._forward_to, body, headers)
        duration_ms = max(1, round((monotonic() - started_at) * 1_000))
        return status or 502, ReceivedMessage(at, event, "", is_repeat, status, duration_ms)

    def _forward(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        """Forward a message; return the status of the response, or None without one."""
        kept = {name: value for name, value in headers.items() if name.lower() in _FORWARDED_HEADERS}
        with suppress(httpx.HTTPError):
            return httpx.post(url, content=body, headers=kept, timeout=FORWARD_TIMEOUT_S, trust_env=False).status_code
        return None


class LocalServer(ThreadingHTTPServer):
    """A server on loopback. It has its port from the start, and responds after `listen`. Use it in a `with`.

    messages: those received, in the order of arrival.

    Raises:
        OSError: the port is in use.
    """

    receiver: Receiver

    def __init__(self, port: int) -> None:
        self.messages: SimpleQueue[ReceivedMessage] = SimpleQueue()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; choose another with --port", f"port {port}") from error
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self._thread: threading.Thread | None = None

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self.shutdown()
        self.server_close()

    def listen(self, receiver: Receiver) -> None:
        """Start to receive messages."""
        self.receiver = receiver
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="listen", daemon=True)
        self._thread.start()


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.send_error(413)
            return
        status, message = self.server.receiver.receive(self.rfile.read(int(length)), dict(self.headers.items()))
        self.server.messages.put(message)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the command prints each message itself."""


def listen(args: argparse.Namespace, session: Session, secret: str) -> int:
    """Print messages until Ctrl-C or `args.count` messages. secret: of an endpoint that is registered, else empty."""
    _check(args, secret)
    with (
        suppress(KeyboardInterrupt),  # the usual way to stop it
        session.client(args) as client,
        LocalServer(args.port) as server,
        _interrupt_on_sigterm(),
    ):
        url = args.public_url or f"{server.origin}/"
        if secret:
            note = "the URL registered with the service must lead there"
            session.print_error(f"listening on {url} until Ctrl-C; {note}")
        with nullcontext(secret) if secret else _registered(client, url, args, session) as endpoint_secret:
            server.listen(Receiver(endpoint_secret, args.forward_to, session.now))
            for message in islice(iter(partial(take, server.messages), None), args.count):
                session.print_result(args, message.body, message.line)
    return Exit.DONE


def _check(args: argparse.Namespace, secret: str) -> None:
    """Raise WrongUsage for an invalid URL or secret."""
    try:
        if secret:
            with suppress(WebhookInvalid):  # the empty message has no signature
                verify(b"", {}, secret)
        for url in filter(None, (args.public_url, args.forward_to)):
            service_url(url)
    except (ValueError, UrlInvalid) as error:
        raise WrongUsage(str(error)) from error


@contextmanager
def _registered(client: Client, url: str, args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Register an endpoint until the `with` ends and yield its secret. First remove one that a killed command left."""
    _unregister(client.webhooks, url)
    try:
        yield _register(client.webhooks, url, args, session)
    finally:  # by URL: Ctrl-C may arrive before the response with the endpoint's id
        try:
            _unregister(client.webhooks, url)
        except TrellisError as error:
            session.print_error(f"{url} may still be registered: {error}; see: trellis2 webhooks list")


def _register(webhooks: Webhooks, url: str, args: argparse.Namespace, session: Session) -> str:
    try:
        endpoint = webhooks.create(url, events=args.events, description=DESCRIPTION)
    except InputRejected as error:
        if not any(field.pointer == "/url" for field in error.errors):
            raise
        raise UrlUnreachable(url, is_local=not args.public_url) from error
    session.print_error(f"the service sends the event of every job that ends to {url} until Ctrl-C")
    return endpoint.secret or ""


def _unregister(webhooks: Webhooks, url: str) -> None:
    for endpoint in webhooks.endpoints():
        if endpoint.url == url and endpoint.description == DESCRIPTION:
            webhooks.delete(endpoint.id)


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that the endpoint is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class UrlUnreachable(TrellisError):
    """The service does not send webhooks to a URL."""

    code = "url_unreachable"

    def __init__(self, url: str, *, is_local: bool) -> None:
        origin = "/".join(url.split("/")[:3])
        hint = (
            f"a service on this machine does if started with TRELLIS2_WEBHOOK_PRIVATE_ORIGINS='[\"{origin}\"]'; for "
            "another service, set --public-url to the https URL of a tunnel to this port"
            if is_local
            else "it must be https, on port 443, and lead to public addresses"
        )
        super().__init__(f"the service does not send to {url}: {hint}")
