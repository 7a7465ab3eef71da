"""Webhook receivers on loopback that give scripted replies and keep the requests."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import HANG_S


@dataclass(frozen=True)
class ReceivedRequest:
    """One request; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """One reply; `drip_s` is how long it takes, a byte at a time, `ends` whether it ends."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drip_s: float = 0.0
    ends: bool = True


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


class Receiver:
    """Gives the replies of `script` in order, then `otherwise`."""

    def __init__(self, *script: Reply, otherwise: Reply | None = None) -> None:
        self.script = list(script)
        self.otherwise = otherwise or Reply()
        self.requests: list[ReceivedRequest] = []
        self.bytes_sent = 0
        self._changed = threading.Condition()
        receiver = self

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.answer(self, ReceivedRequest(self.path, headers, body))

            do_PUT = do_POST  # noqa: N815 - the server's name for it

            def do_GET(self) -> None:
                receiver.answer(self, ReceivedRequest(self.path, {}, b""))

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        self._server = _Server(("127.0.0.1", 0), Answers)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/hook?token=abc"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler, request: ReceivedRequest) -> None:
        """Keep a request and send the next reply."""
        with self._changed:
            self.requests.append(request)
            reply = self.script.pop(0) if self.script else self.otherwise
            self._changed.notify_all()
        handler.close_connection = True
        try:
            if reply.drip_s:
                self._drip(handler, reply)
                return
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            if reply.ends:
                handler.send_header("Content-Length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
            while not reply.ends:
                self.bytes_sent += handler.wfile.write(b"x" * 65_536)
        except OSError:
            return

    def _drip(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        """Send the status line byte by byte, so that no answer starts."""
        line = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100
        for at in range(len(line)):
            handler.wfile.write(line[at : at + 1])
            time.sleep(reply.drip_s / len(line))

    def wait_for(self, is_enough: Callable[[list[ReceivedRequest]], bool]) -> list[ReceivedRequest]:
        """Wait for enough requests; return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: is_enough(self.requests), HANG_S):
                raise TimeoutError(f"only {len(self.requests)} requests came")
            return list(self.requests)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def canary() -> socket.socket:
    """Create a listener that no connection may reach."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def was_reached(listener: socket.socket) -> bool:
    """Whether a connection reached it."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
