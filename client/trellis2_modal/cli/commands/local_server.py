"""A server on loopback that takes messages, one thread each, and hands them on in the order in which they came."""

from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

Message = TypeVar("Message")
Take = Callable[[bytes, Mapping[str, str]], tuple[int, Message]]

MOST_BYTES = 1_000_000  # a message has 20 kB at most


class LocalServer(Generic[Message]):
    """Listens on a port from the start, answers once `listen` says how. Use it in a `with`.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._heard: SimpleQueue[Message] = SimpleQueue()
        try:
            self._server = _Server(("127.0.0.1", port), _Answers)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}; choose another with --port", f"port {port}") from error
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread:
            self._server.shutdown()
        self._server.server_close()

    def listen(self, take: Take[Message]) -> None:
        """Take messages: `take(body, headers)` gives the status to answer and what was heard."""

        def answer(body: bytes, headers: Mapping[str, str]) -> int:
            status, heard = take(body, headers)
            self._heard.put(heard)
            return status

        self._server.answer = answer
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="ear", daemon=True)
        self._thread.start()

    def heard(self) -> Iterator[Message]:
        """What was heard, without end."""
        while True:
            yield self._heard.get()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[bytes, Mapping[str, str]], int]


class _Answers(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Take a message."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.send_error(413)
            return
        status = self.server.answer(self.rfile.read(int(length)), dict(self.headers.items()))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is heard is told elsewhere."""
