"""Processes of the service, started for a measurement and ended after it."""

import io
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

TRELLIS2 = str(Path(sys.executable).with_name("trellis2"))  # the command line that the client installs


def free_port() -> int:
    """Find an unused loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_process(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of a `with`; terminate it at the end, kill it after ten seconds."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class KilledProcess:
    """A process that is killed and restarted every `every_s` seconds, plus or minus half."""

    command: Sequence[str]
    environment: dict[str, str]
    every_s: float
    kills: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the process and the kills."""
        self._thread = threading.Thread(target=self._restart_repeatedly)
        self._thread.start()

    def _restart_repeatedly(self) -> None:
        while not self._stopping.is_set():
            process = subprocess.Popen(self.command, env=self.environment, stderr=subprocess.DEVNULL)
            if self._stopping.wait(self.every_s * random.uniform(0.5, 1.5)):
                process.send_signal(signal.SIGTERM)
            else:
                process.kill()
                self.kills += 1
            process.wait()

    def stop(self) -> None:
        """Terminate the process and stop restarting it."""
        self._stopping.set()
        if self._thread:
            self._thread.join()


@contextmanager
def run_service(prefix: str) -> Iterator[str]:
    """The embedded service in a process of its own, over a folder that goes with it; gives its URL once ready."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        port = free_port()
        environment = {**os.environ, "TRELLIS2_DATA_DIR": folder, "TRELLIS2_PORT": str(port)}
        with run_process([TRELLIS2, "serve"], environment):
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url)
            yield url


def wait_until_ready(url: str, within_s: float = 60.0) -> None:
    """Return once the gateway is ready.

    Raises:
        TimeoutError: it is not within `within_s`.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} was not ready within {within_s} s")


def draw_test_image(side: int = 256) -> bytes:
    """A small PNG with alpha: a disc with a stripe."""
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side * 0.1, side * 0.1, side * 0.9, side * 0.9), fill=(200, 80, 60, 255))
    draw.rectangle((side * 0.2, side * 0.45, side * 0.8, side * 0.55), fill=(240, 220, 90, 255))
    body = io.BytesIO()
    image.save(body, "PNG")
    return body.getvalue()
