"""docs/command-line.md is true: its commands run one after the other, its lists are those of the command."""

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trellis2_modal.cli import BUILT_IN
from trellis2_modal.cli.context import Session
from trellis2_modal.cli.exit_codes import Exit

from bench.support.processes import TRELLIS2, free_port, spawned
from infra.cli import parsers
from tests.support.service_processes import SAMPLES, shell, whole_service

DOCUMENT = Path("docs/command-line.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
# What stands in the document for what a reader has: an address, a port, a job's id.
ADDRESS, PORT, JOB = "http://127.0.0.1:8080", "9000", "job_01m87qa8keebs8qqn6j7rpd6vh"


@contextmanager
def listening(command: str, **options: object) -> Iterator[None]:
    """Run a command until the end, then press Ctrl-C."""
    with subprocess.Popen(["bash", "-ec", f"exec {command}"], stderr=subprocess.PIPE, text=True, **options) as process:  # type: ignore[call-overload]
        try:
            said = process.stderr.readline()
            assert "until Ctrl-C" in said, said
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    """Make one and many, list, get, export, watch, listen, complete."""
    for name in ("mug.png", "photos/mug.png", "photos/cup.png", "more/bowls/bowl.png", "more/jug.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / "mug.png", tmp_path / name)
    data, port = tmp_path / "data", str(free_port())
    path = f"{Path(TRELLIS2).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "TRELLIS2_DATA_DIR": str(data), "PATH": path, "HOME": str(tmp_path)}
    origins = f'["http://127.0.0.1:{port}"]'
    with (
        whole_service(data, "gateway", "sweeper", "notifier", WEBHOOK_PRIVATE_ORIGINS=origins) as url,
        spawned([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
    ):
        environment["TRELLIS2_URL"] = url
        job = ""
        for line in COMMANDS:
            command = (
                line.replace(ADDRESS, url).replace(f":{PORT}", f":{port}").replace(f"--port {PORT}", f"--port {port}")
            )
            if "listen" in command:
                with listening(command, cwd=tmp_path, env=environment):
                    pass
                continue
            said = shell(command.replace(JOB, job), shown=command, folder=tmp_path, environment=environment)
            if found := re.search(r"job_[0-9a-z]{26}", said):
                job = job or found[0]
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.glb") if data not in path.parents}
    assert made == {
        *("mug.glb", "again.glb", "small.glb"),
        *("assets/mug.glb", "assets/cup.glb", "assets/bowl.glb", "assets/jug.glb"),
        *("assets/photos/1-cup.glb", "assets/photos/2-mug.glb", "assets/more/3-jug.glb"),
    }
    assert (tmp_path / ".local/share/bash-completion/completions/trellis2").stat().st_size > 0


def test_every_command_is_named() -> None:
    """Those of the client, of the service, and what stands below them."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    session = Session({}, io.StringIO(), io.StringIO(), width=lambda: 80)
    for command in BUILT_IN.values():
        command.add(subparsers, session)
    for add_verb in (parsers.add_serve, parsers.add_keys, parsers.add_demo, parsers.add_doctor):
        add_verb(subparsers)
    text = re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL)
    named = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([^`]+)`", text))))
    below = {name for command in ("batch", "webhooks") for name in verbs_of(subparsers.choices[command])}
    assert set(subparsers.choices) | below <= named


def verbs_of(parser: argparse.ArgumentParser) -> list[str]:
    """The commands below a command."""
    return [name for action in parser._actions if isinstance(action.choices, dict) for name in action.choices]


def test_the_table_has_every_exit_code() -> None:
    """As the help tells them."""
    rows = re.findall(r"^\| (\d) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code.value for code in Exit]
    told = subprocess.run([TRELLIS2, "--help"], capture_output=True, text=True, check=True).stdout
    said = " ".join(told.partition("Exit codes: ")[2].split())
    for code, meaning in rows:
        assert f"{code} {meaning}" in said
