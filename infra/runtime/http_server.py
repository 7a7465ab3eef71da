"""The HTTP server of a long-lived process."""

import gc
import os
import random
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

BACKLOG = 2048  # callers that wait to be let in, as many as uvicorn has by itself
GARBAGE_OBJECTS = 50_000  # new objects after which the youngest are looked through


def keep_to_one_core() -> None:
    """Keep this thread, and those that it will start, to one core, where the system can do that.

    Only one of them holds the interpreter at any moment, and handing it to a thread of the same core takes no waking of
    another: a submit costs a fifth less time. Whatever else the process does keeps all cores.
    """
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})  # noqa: S311 - no secret


@dataclass(slots=True)
class Server:
    """uvicorn in a thread, on a socket that is bound before it starts, so that the port is known."""

    app: FastAPI
    host: str
    port: int
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def start(self) -> str:
        """Listen; return the base URL."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.host, self.port))
        bound.listen(BACKLOG)  # from now on who calls is not refused, but waits for the loop to begin
        self.port = bound.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who calls is decided by the connection, never by a header
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        # What lives as long as the process need not be looked through by each collection: that was a quarter of the
        # time of a submit.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS, 50, 50)
        self._thread = threading.Thread(target=self._serve, args=(self._server, bound), name="gateway", daemon=True)
        self._thread.start()
        return f"http://{f'[{self.host}]' if family == socket.AF_INET6 else self.host}:{self.port}"

    def _serve(self, server: uvicorn.Server, bound: socket.socket) -> None:
        keep_to_one_core()
        server.run([bound])

    def stop(self) -> None:
        """Finish the requests at work, for two seconds at most."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(4.0)
