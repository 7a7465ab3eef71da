"""A gateway in a process of its own, over a folder, for tests that kill it, crowd it, or measure its memory."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import HANG_S

PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass
class GatewayProcess:
    """Where it listens, and its process."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S)

    def peak_bytes(self) -> int:
        """The most memory that it has ever held."""
        found = PEAK.search(Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024


@contextmanager
def run_gateway(folder: Path, *, crash_at: str = "", body_s: float = 60.0) -> Iterator[GatewayProcess]:
    """Run one; `crash_at` names the point of a submit where it kills itself, `body_s` how long a body may take."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        number = listening.fileno()
        os.set_inheritable(number, True)
        command = [
            sys.executable,
            "-m",
            "tests.support.gateway_process",
            str(folder),
            str(number),
            crash_at,
            str(body_s),
        ]
        process = subprocess.Popen(command, close_fds=False)
        port = listening.getsockname()[1]
    try:
        yield GatewayProcess(port, process)  # connections wait in the socket until it is up
    finally:
        process.kill()
        process.wait()


def serve(folder: Path, listening: int, crash_at: str, body_s: float) -> None:
    """The process's part."""
    import uvicorn

    from api.app import create_app
    from api.context.services import Dependencies
    from api.middleware.body_limit import RequestLimits
    from infra.embedded_store.store import SqliteStore
    from infra.queues.local import MemoryQueue
    from shared.net.egress import Egress
    from shared.repositories.job_listeners import build_job_repository

    def checkpoint(point: str) -> None:
        if point == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    store = SqliteStore(folder, secret=b"test")
    app = create_app(
        Dependencies(
            store=store,
            jobs=build_job_repository(store),
            queue=MemoryQueue(),
            egress=Egress(),
            engines=("relief",),
            limits=RequestLimits(body_s=body_s),
            checkpoint=checkpoint,
        )
    )
    uvicorn.run(app, fd=listening, log_level="error", access_log=False, proxy_headers=False)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
