"""`trellis2 keys` and `trellis2 serve`: what they print, and how they end."""

import argparse
import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cli import parsers

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trellis2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a verb over a store of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("TRELLIS2_DATA_DIR", str(tmp_path / "data"))

    def run(*argv: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        subparsers = parser.add_subparsers()
        parsers.add_serve(subparsers)
        parsers.add_keys(subparsers)
        arguments = parser.parse_args(argv)
        code = arguments.run(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    root, ours = logging.getLogger(), logging.getLogger("trellis2")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield run
    # `serve` sends the log to a stderr that pytest closes: no later test may write there.
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines(out: str) -> list[Any]:
    """What was printed with --json."""
    return [json.loads(line) for line in out.splitlines()]


def test_key_is_made_listed_and_revoked(trellis2: Run) -> None:
    """The key alone on stdout; later its line, never its secret."""
    code, key, output = trellis2("keys", "create", "shop", "--name", "feed", "--scope", "jobs:read")
    assert (code, key.startswith("t2_"), key.count("\n")) == (0, True, 1)
    key_id = output.split()[0]
    assert trellis2("keys", "list")[1] == f"{key_id}  shop  jobs:read  live  feed\n"
    assert " revoked " in trellis2("keys", "revoke", key_id)[1]


def test_keys_as_json_are_objects(trellis2: Run) -> None:
    """The key is in the one that makes it and in no other; nowhere what it is checked by."""
    [made] = lines(trellis2("keys", "create", "shop", "--json")[1])
    [listed] = lines(trellis2("keys", "list", "--json")[1])
    assert made.pop("key").startswith("t2_")
    assert made == listed
    assert (listed["caller"], listed["scopes"]) == ("shop", ["jobs:read", "jobs:write"])
    assert "sha256" not in listed


def test_folder_may_be_named_before_the_verb_or_after_it(trellis2: Run, tmp_path: Path) -> None:
    """It is the same folder."""
    other = str(tmp_path / "other")
    trellis2("keys", "create", "shop", "--data-dir", other)
    assert trellis2("keys", "--data-dir", other, "list")[1] == trellis2("keys", "list", "--data-dir", other)[1] != ""
    assert trellis2("keys", "list")[1] == ""


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["create", "a b"], "a caller is 1-63 letters, digits, underscores and hyphens"),
        (["create", "shop", "--burst", "0"], "--burst: Input should be greater than or equal to 1"),
        (["create", "shop", "--days", "-1"], "--days: a number above 0, 36500 at most"),
        (["create", "shop", "--days", "1e9"], "--days: a number above 0, 36500 at most"),
        (["revoke", "nope"], "no API key nope"),
        (["list", "--data-dir", "a-file"], "a-file: File exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_a_line(
    argv: list[str], complaint: str, trellis2: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit code 2; as JSON where that was asked for."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    assert trellis2("keys", *argv) == (2, "", f"trellis2 keys: {complaint}\n")
    code, out, _ = trellis2("keys", *argv, "--json")
    assert (code, lines(out)[0]["error"]["detail"]) == (2, complaint)


@pytest.mark.parametrize(
    ("argv", "environment", "complaint"),
    [
        (["--port", "99999"], {}, "--port, TRELLIS2_PORT: Input should be less than or equal to 65535"),
        (
            [],
            {"TRELLIS2_RECONCILE_INTERVAL_S": "soon"},
            "TRELLIS2_RECONCILE_INTERVAL_S: Input should be a valid number",
        ),
        ([], {"TRELLIS2_WEBHOOK_PRIVATE_ORIGINS": "x"}, "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS is not JSON"),
        (["--data-dir", "a-file"], {}, "a-file: File exists"),
    ],
    ids=" ".join,
)
def test_service_that_cannot_start_says_why_in_a_line(
    argv: list[str],
    environment: dict[str, str],
    complaint: str,
    trellis2: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the option, and by the setting that stands for it."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, output = trellis2("serve", *argv)
    assert (code, output.splitlines()[-1].startswith(f"trellis2 serve: {complaint}")) == (1, True)
    assert "Traceback" not in output


def test_port_that_is_taken_is_said_to_be(trellis2: Run) -> None:
    """And how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, output = trellis2("serve", "--role", "gateway", "--port", str(taken.getsockname()[1]))
    assert (code, output.splitlines()[-1]) == (1, "trellis2 serve: the port is in use: choose another with --port")
