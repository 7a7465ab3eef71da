"""The most memory that one piece of work ever held, on the host and on the GPU."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
EVERY_MS = 20


@dataclass
class Peaks:
    """Bytes. host: of this process, all that it holds. gpu: above what the GPU held before; 0 without a GPU."""

    host: int = 0
    gpu: int = 0


@contextmanager
def peaks(*, on_gpu: bool) -> Iterator[Peaks]:
    """Known once the work is done. Another process watches the GPU, as ours may not get to look."""
    found = Peaks()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the kernel's own mark begins anew
    watcher, before = _watcher() if on_gpu else (None, 0)
    try:
        yield found
    finally:
        found.host = _high_water()
        if watcher:
            watcher.terminate()
            held = [int(line) for line in watcher.communicate()[0].split() if line.isdigit()]
            found.gpu = (max(held, default=before) - before) * MIB


def _watcher() -> tuple[subprocess.Popen[str], int]:
    """What looks, and what it saw first, MiB."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    watcher = subprocess.Popen([*command, f"--loop-ms={EVERY_MS}"], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    return watcher, int(watcher.stdout.readline())


def _high_water() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [each for each in status.splitlines() if each.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
