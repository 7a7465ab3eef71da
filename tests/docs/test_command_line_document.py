"""docs/command-line.md is correct: its commands run in order, and its lists are complete."""

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

from bench.support.processes import TRELLIS2, free_port, run_process
from infra.cli import parsers
from tests.support.service_processes import SAMPLES, shell, whole_service

DOCUMENT = Path("docs/command-line.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
# The document's examples of a URL, a port and a job id.
ADDRESS, PORT, JOB = "http://127.0.0.1:8080", "9000", "job_01m87qa8keebs8qqn6j7rpd6vh"


@contextmanager
def listening(command: str, **options: object) -> Iterator[None]:
    """Run a command in the background, then press Ctrl-C."""
    with subprocess.Popen(["bash", "-ec", f"exec {command}"], stderr=subprocess.PIPE, text=True, **options) as process:  # type: ignore[call-overload]
        try:
            line = process.stderr.readline()
            assert "until Ctrl-C" in line, line
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0
        finally:
            process.kill()


def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    """Generate one image and many, list, get, export, watch, listen, complete."""
    for name in ("mug.png", "photos/mug.png", "photos/cup.png", "more/bowls/bowl.png", "more/jug.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / "mug.png", tmp_path / name)
    data, port = tmp_path / "data", str(free_port())
    path = f"{Path(TRELLIS2).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "TRELLIS2_DATA_DIR": str(data), "PATH": path, "HOME": str(tmp_path)}
    origins = f'["http://127.0.0.1:{port}"]'
    with (
        whole_service(data, "gateway", "scheduler", "notifier", WEBHOOK_PRIVATE_ORIGINS=origins) as url,
        run_process([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
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
            output = shell(command.replace(JOB, job), shown=command, folder=tmp_path, environment=environment)
            if match := re.search(r"job_[0-9a-z]{26}", output):
                job = job or match[0]
    models = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.glb") if data not in path.parents}
    assert models == {
        *("mug.glb", "again.glb", "small.glb"),
        *("assets/mug.glb", "assets/cup.glb", "assets/bowl.glb", "assets/jug.glb"),
        *("assets/photos/1-cup.glb", "assets/photos/2-mug.glb", "assets/more/3-jug.glb"),
    }
    assert (tmp_path / ".local/share/bash-completion/completions/trellis2").stat().st_size > 0


def test_every_command_is_named() -> None:
    """The client's, the service's, and their subcommands."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    session = Session({}, io.StringIO(), io.StringIO(), width=lambda: 80)
    for name, command in BUILT_IN.items():
        command.add(name, subparsers, session)
    for add_command in (parsers.add_serve, parsers.add_keys, parsers.add_demo, parsers.add_doctor):
        add_command(subparsers)
    text = re.sub(r"```.*?```", "", DOCUMENT, flags=re.DOTALL)
    named = set(re.findall(r"[a-z-]+", " ".join(re.findall(r"`([^`]+)`", text))))
    nested = {name for command in ("batch", "webhooks") for name in subcommands_of(subparsers.choices[command])}
    assert set(subparsers.choices) | nested <= named


def subcommands_of(parser: argparse.ArgumentParser) -> list[str]:
    """List the subcommands of a command."""
    return [name for action in parser._actions if isinstance(action.choices, dict) for name in action.choices]


def test_the_table_has_every_exit_code() -> None:
    """With the meanings of the help."""
    rows = re.findall(r"^\| (\d) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert [int(code) for code, _ in rows] == [code.value for code in Exit]
    help_text = subprocess.run([TRELLIS2, "--help"], capture_output=True, text=True, check=True).stdout
    codes = " ".join(help_text.partition("Exit codes: ")[2].split())
    for code, meaning in rows:
        assert f"{code} {meaning}" in codes
