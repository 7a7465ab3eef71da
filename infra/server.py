"""The HTTP server of a long-lived process."""

import gc
import socket
import threading
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

GARBAGE_OBJECTS = 50_000  # new objects after which the youngest are looked through


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
        self._thread = threading.Thread(target=self._server.run, args=([bound],), name="gateway", daemon=True)
        self._thread.start()
        return f"http://{f'[{self.host}]' if family == socket.AF_INET6 else self.host}:{self.port}"

    def stop(self) -> None:
        """Finish the requests at work, for two seconds at most."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(4.0)
