"""The arguments of the service's commands. Their functions are imported when they run.

So `--help`, which lists every command, does not import the service.
"""

import argparse
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

SAMPLE = Path("docs/samples/mug.png")
ROLES = ("all", "gateway", "worker", "reconciler", "scheduler", "notifier")
SCOPES = ("jobs:read", "jobs:write")


def run_command(name: str, arguments: argparse.Namespace) -> int:
    """Import a command's function, `module:function`, and run it; return the exit code."""
    return int(resolve_name(name)(arguments))


def add_serve(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="Run the service on this machine.")
    parser.add_argument("--role", choices=ROLES, default="all", help="the part of the service to run")
    parser.add_argument("--host", help="address to listen on (TRELLIS2_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (TRELLIS2_PORT)")
    parser.add_argument("--data-dir", help="folder of the embedded store (TRELLIS2_DATA_DIR)")
    parser.set_defaults(run=partial(run_command, "infra.cli.commands:run_serve"))


def add_keys(subparsers: Any) -> None:
    parser = subparsers.add_parser("keys", help="Create, list and revoke API keys of this machine's service.")
    parser.add_argument("--data-dir", help="folder of the embedded store (TRELLIS2_DATA_DIR)")
    verbs = parser.add_subparsers(required=True, metavar="create | list | revoke")
    create = _add_key_verb(verbs, "create", "create a key; it is shown once")
    create.add_argument("caller", help="name of the key's owner: letters, digits, _ and -")
    create.add_argument("--name", default="command line", help="what it is for")
    create.add_argument("--scope", action="append", choices=SCOPES, help="both if absent")
    create.add_argument("--days", type=float, help="days until it expires; never if absent")
    create.add_argument("--requests-per-s", type=float, help="average rate of requests")
    create.add_argument("--burst", type=int, help="requests at once")
    create.add_argument("--unfinished-jobs", type=int, help="jobs queued and running at most")
    create.add_argument("--running-jobs", type=int, help="jobs running at once; the others stay queued")
    create.add_argument("--gpu-seconds-per-day", type=float, help="no new job once a day has used so much")
    create.add_argument("--usd-per-day", type=float, help="no new job once a day has cost so much")
    create.add_argument("--keep-days", type=float, help="days until a finished job is deleted; kept if absent")
    _add_key_verb(verbs, "list", "show all keys, never their secrets")
    _add_key_verb(verbs, "revoke", "revoke a key").add_argument("key_id")


def _add_key_verb(verbs: Any, name: str, sentence: str) -> argparse.ArgumentParser:
    """Add one of them; the options may stand before the verb or after it."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=sentence)
    parser.add_argument(
        "--data-dir", default=argparse.SUPPRESS, help="folder of the embedded store (TRELLIS2_DATA_DIR)"
    )
    parser.add_argument("--json", action="store_true", help="results as JSON, one object a line")
    parser.set_defaults(run=partial(run_command, f"infra.cli.commands:run_{name}_keys"))
    return parser


def add_demo(subparsers: Any) -> None:
    parser = subparsers.add_parser("demo", help="Start the service, generate one asset, stop.")
    parser.add_argument("image", nargs="?", type=Path, default=SAMPLE, help=f"an image ({SAMPLE} if absent)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the GLB and its poster")
    parser.set_defaults(run=partial(run_command, "infra.cli.commands:run_demo"))


def add_doctor(subparsers: Any) -> None:
    parser = subparsers.add_parser("doctor", help="Check what a deployment on Modal lacks, and how to fix it.")
    parser.add_argument("--gpu", action="store_true", help="also start a GPU, which costs a few cents")
    parser.set_defaults(run=partial(run_command, "infra.doctor.command:run_doctor"))
