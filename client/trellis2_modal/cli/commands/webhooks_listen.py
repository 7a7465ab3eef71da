"""The command `trellis2 webhooks listen`: what the service sends, as it comes, on this machine."""

import argparse
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Any

import httpx

from trellis2_modal._http import service_url
from trellis2_modal.cli.commands.local_server import LocalServer
from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit
from trellis2_modal.cli.usage_errors import WrongUsage
from trellis2_modal.client import Client
from trellis2_modal.errors import InputRejected, TrellisError, UrlInvalid
from trellis2_modal.resources.webhooks import Webhooks
from trellis2_modal.webhooks import WebhookEvent, WebhookInvalid, verify

FORWARD_S = 15.0  # the service waits as long for an answer
MARK = "trellis2 webhooks listen"
_PASSED_ON = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "traceparent")


@dataclass(frozen=True, slots=True)
class Heard:
    """One message: what it says, or why it was refused; whether it came before; what the receiver made of it."""

    at: datetime
    event: WebhookEvent | None
    refusal: str = ""
    is_repeat: bool = False
    status: int | None = None
    duration_ms: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """For scripts."""
        event = self.event
        said = {"id": event.id, "type": event.type, "timestamp": event.timestamp, "data": event.data} if event else {}
        forwarded = {"forwarded": {"status": self.status, "duration_ms": self.duration_ms}} if self.duration_ms else {}
        refused = {"refused": self.refusal} if self.refusal else {}
        return {"received_at": self.at.isoformat(), "repeat": self.is_repeat, **said, **forwarded, **refused}

    @property
    def line(self) -> str:
        """For a person: when, what, of which job, under which id, whether again, what came of it."""
        if self.event is None:
            return f"{self.at.astimezone():%H:%M:%S}  refused: {self.refusal}"
        data = self.event.data
        parts = [self.event.type, str(data.get("id") or ""), str(data.get("status") or ""), self.event.id]
        parts += ["again"] if self.is_repeat else []
        if self.duration_ms:
            parts.append(f"-> {self.status or 'no answer'}, {self.duration_ms} ms")
        return "  ".join([f"{self.at.astimezone():%H:%M:%S}", *filter(None, parts)])


class Receiver:
    """Verifies messages, passes them on, and says what to answer. Safe from any thread."""

    def __init__(self, secret: str, forward_to: str | None, now: Callable[[], datetime]) -> None:
        self._secret = secret
        self._forward_to = forward_to
        self._now = now
        self._seen: set[str] = set()

    def take(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Heard]:
        """The status to answer, and what was heard."""
        at = self._now()
        try:
            event = verify(body, headers, self._secret, clock=at.timestamp)
        except WebhookInvalid as error:
            return 400, Heard(at, None, str(error))
        is_repeat = event.id in self._seen
        self._seen.add(event.id)
        if not self._forward_to:
            return 204, Heard(at, event, is_repeat=is_repeat)
        before = monotonic()
        status = self._passed_on(body, headers)
        duration_ms = max(1, round((monotonic() - before) * 1_000))
        return status or 502, Heard(at, event, "", is_repeat, status, duration_ms)

    def _passed_on(self, body: bytes, headers: Mapping[str, str]) -> int | None:
        """What the receiver answered, if it did."""
        passed = {name: value for name, value in headers.items() if name.lower() in _PASSED_ON}
        with suppress(httpx.HTTPError):
            url = self._forward_to or ""
            return httpx.post(url, content=body, headers=passed, timeout=FORWARD_S, trust_env=False).status_code
        return None


def listen(args: argparse.Namespace, session: Session, given_secret: str) -> int:
    """Print what comes until Ctrl-C, or until `args.count` messages have come."""
    _check(args, given_secret)
    with suppress(KeyboardInterrupt):  # the usual way to end it
        _hear(args, session, given_secret)
    return Exit.DONE


def _hear(args: argparse.Namespace, session: Session, given_secret: str) -> None:
    with session.client(args) as client, LocalServer[Heard](args.port) as ear, _ended_by_signals():
        url = args.public_url or f"{ear.origin}/"
        with _given(given_secret, url, session) if given_secret else _registered(client, url, args, session) as secret:
            ear.listen(Receiver(secret, args.forward_to, session.now).take)
            for heard in islice(ear.heard(), args.count):
                session.say_either(args, heard.body, heard.line)


def _check(args: argparse.Namespace, secret: str) -> None:
    """Raise WrongUsage where a URL or the secret is none."""
    wrong = ""
    for option in ("forward_to", "public_url"):
        try:
            if url := getattr(args, option):
                service_url(url)
        except UrlInvalid as error:
            wrong = str(error)
    try:
        if secret:
            verify(b"", {}, secret)
    except ValueError as error:
        wrong = str(error)
    except WebhookInvalid:
        pass  # of course: it was signed by nobody
    if wrong:
        raise WrongUsage("trellis2 webhooks listen", wrong)


@contextmanager
def _registered(client: Client, url: str, args: argparse.Namespace, session: Session) -> Iterator[str]:
    """The secret of an endpoint that lives as long as the `with`; one that a killed listener left goes first."""
    _remove(client.webhooks, url)
    try:
        yield _register(client.webhooks, url, args, session)
    finally:  # by its URL: Ctrl-C may come before the answer that has its id
        try:
            _remove(client.webhooks, url)
        except TrellisError as error:
            session.complain(f"{url} may still be registered: {error}; see: trellis2 webhooks list")


def _register(webhooks: Webhooks, url: str, args: argparse.Namespace, session: Session) -> str:
    try:
        made = webhooks.create(url, events=args.events, description=MARK)
    except InputRejected as error:
        if not any(one.pointer == "/url" for one in error.errors):
            raise
        raise NotSentThere(url, is_local=not args.public_url) from error
    session.complain(f"every end of a job is told to {url} until Ctrl-C")
    return made.secret or ""


def _remove(webhooks: Webhooks, url: str) -> None:
    for one in webhooks.endpoints():
        if one.url == url and one.description == MARK:
            webhooks.delete(one.id)


@contextmanager
def _given(secret: str, url: str, session: Session) -> Iterator[str]:
    """The secret of an endpoint that somebody has registered."""
    session.complain(f"listening on {url} until Ctrl-C; what is registered with the service must lead there")
    yield secret


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does, so that the endpoint is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class NotSentThere(TrellisError):
    """The service does not send webhooks to a URL."""

    code = "url_unreachable"

    def __init__(self, url: str, *, is_local: bool) -> None:
        origin = "/".join(url.split("/")[:3])
        mend = (
            f"a service on this machine does once started with TRELLIS2_WEBHOOK_PRIVATE_ORIGINS='[\"{origin}\"]'; for "
            "another, give the https URL of a tunnel to this port as --public-url"
            if is_local
            else "it must be https, on port 443, and lead to public addresses"
        )
        super().__init__(f"the service does not send to {url}: {mend}")
