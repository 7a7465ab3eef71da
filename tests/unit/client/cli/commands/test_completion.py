"""`trellis2 completion`: its scripts in the installed shells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trellis2_modal.cli.options import PRESETS

from tests.unit.client.cli.test_cli import EntryPoint, add_hello
from tests.unit.client.cli_runner import Shell
from tests.unit.client.scripted_transport import Script

ASK = """
source "$1"
complete -p trellis2
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_shtab_trellis2 trellis2 "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str, folder: Path) -> Path:
    """Save the command's output to a file."""
    trellis2 = Shell(Script([]), plugins=[EntryPoint("hello", add_hello)])
    assert trellis2.run("completion", shell) == 0
    path = folder / f"completion.{shell}"
    path.write_text(trellis2.out.getvalue())
    return path


def completed(folder: Path, *words: str) -> list[str]:
    """Return bash's completions for the last of the words."""
    command = ["bash", "--norc", "-c", ASK, "bash", script("bash", folder), "trellis2", *words]
    asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    registered, *offered = asked.stdout.splitlines()
    assert registered == "complete -o bashdefault -F _shtab_trellis2 trellis2"
    return offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["gen"], ["generate"]),
        (["hel"], ["hello"]),
        (["batch", "con"], ["confirm"]),
        (["webhooks", "rot"], ["rotate-secret"]),
        (["generate", "--preset", ""], [*PRESETS]),
        (["generate", "--pipeline_type", "1024"], ["1024", "1024_cascade"]),
        (["export", "job_1", "--texture_size", "1"], ["1024"]),
        (["generate", "--remesh", ""], ["true", "false"]),
        (["jobs", "--status", "unf"], ["unfinished"]),
        (["watch", "--aft"], ["--after"]),
        (["completion", "f"], ["fish"]),
        (["generate", "mu"], ["mug.png"]),
        (["generate", "mug.png", "-o", "mu"], ["mug.png"]),
    ],
    ids=" ".join,
)
def test_bash_offers_commands_options_values_and_files(words: list[str], offered: list[str], tmp_path: Path) -> None:
    """Also those of plugins."""
    (tmp_path / "mug.png").touch()
    assert sorted(completed(tmp_path, *words)) == sorted(offered)


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_script_is_valid_in_its_shell(shell: str, check: str, tmp_path: Path) -> None:
    """If the shell is installed."""
    path = script(shell, tmp_path)
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, check, path], check=True)


def test_missing_shtab_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    shell = Shell(Script([]))
    assert shell.run("completion", "bash") == 2
    assert shell.err.getvalue() == ("trellis2: this command needs shtab: pip install 'trellis2-modal[completion]'\n")
