"""The whole service in processes, and the installed command `trellis2` against it."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.support.processes import TRELLIS2, free_port, run_process, wait_until_ready
from tests.support.waiting import HANG_S

SAMPLES = Path("docs/samples")


@contextmanager
def whole_service(folder: Path, *roles: str, **settings: str) -> Iterator[str]:
    """One process for each role over one store; gives the URL. Settings are environment names without TRELLIS2_."""
    port = free_port()
    own = {"DATA_DIR": str(folder), "PORT": str(port), "RECONCILE_INTERVAL_S": "1", **settings}
    environment = {**os.environ, **{f"TRELLIS2_{name}": value for name, value in own.items()}}
    with ExitStack() as stack:
        for role in roles:
            stack.enter_context(run_process([TRELLIS2, "serve", "--role", role], environment))
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        yield url


def trellis2(
    url: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command against a service."""
    return subprocess.run(
        [TRELLIS2, *arguments, "--url", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        env={**os.environ, **(environment or {})},
    )


def shell(script: str, *, shown: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a document's commands as they stand there, `shown` where they fail; gives what they print."""
    answer = subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert answer.returncode == 0, f"{shown}\n{answer.stdout}{answer.stderr}"
    return answer.stdout
