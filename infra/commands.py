"""The service's verbs of the command `trellis2`: serve, keys."""

import argparse
import json
import sys
from datetime import timedelta
from typing import Any

from infra.local import Role, Service, open_store
from infra.settings import Settings
from shared.errors import ServiceError
from shared.log import log_to_stderr


def add_serve(subparsers: Any) -> None:
    """Add `trellis2 serve`."""
    parser = subparsers.add_parser("serve", help="run the service on this machine")
    parser.add_argument("--role", choices=[role.value for role in Role], default="all", help="which part to play")
    parser.add_argument("--host", help="address to listen on (TRELLIS2_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (TRELLIS2_PORT)")
    parser.add_argument("--data-dir", help="folder of the file store (TRELLIS2_DATA_DIR)")
    parser.set_defaults(run=run_serve)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The environment's settings, under what the command line says."""
    given = {name: getattr(arguments, name, None) for name in ("host", "port", "data_dir")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 1 if the service cannot start."""
    settings = settings_of(arguments)
    log_to_stderr(settings.log_level)
    service = Service(settings, Role(arguments.role))
    try:
        service.run_until_signaled()
    except (ServiceError, OSError) as error:
        print(f"trellis2 serve: {error}", file=sys.stderr)
        return 1
    return 0


def add_keys(subparsers: Any) -> None:
    """Add `trellis2 keys create | list | revoke`."""
    parser = subparsers.add_parser("keys", help="make, list and revoke API keys of this machine's service")
    parser.add_argument("--data-dir", help="folder of the file store (TRELLIS2_DATA_DIR)")
    verbs = parser.add_subparsers(required=True, metavar="create | list | revoke")
    create = verbs.add_parser("create", help="make a key; it is shown once")
    create.add_argument("caller", help="whose key: letters, digits, _ and -")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--scope", action="append", help="jobs:read or jobs:write; both if absent")
    create.add_argument("--days", type=float, help="days until it expires; never if absent")
    create.set_defaults(run=create_key)
    listing = verbs.add_parser("list", help="show all keys, never their secrets")
    listing.set_defaults(run=list_keys)
    revoke = verbs.add_parser("revoke", help="end a key")
    revoke.add_argument("key_id")
    revoke.set_defaults(run=revoke_key)
