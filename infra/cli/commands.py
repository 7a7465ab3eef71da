"""Run `trellis2 serve`, `trellis2 keys` and `trellis2 demo`."""

import argparse
import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from api.limits.api_keys import KeyRecord, Scope, create_key, list_keys, revoke_key
from api.limits.quotas import CallerLimits
from infra.local import Role, Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.errors import ParameterInvalid, ServiceError
from shared.log import log_to_stderr
from shared.storage.ports import ObjectStore

# As the client's commands have them.
DONE, FAILED, REFUSED, UNREACHABLE = 0, 1, 2, 3
LONGEST_DAYS = 36_500


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Read the settings from the environment; options of the command line override them.

    Raises:
        ParameterInvalid: one of them is not what it must be.
    """
    given = {name: getattr(arguments, name, None) for name in ("host", "port", "data_dir")}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "_".join(str(part) for part in wrong["loc"][:1])
        option = f"--{name.replace('_', '-')}, " if given.get(name) is not None else ""
        raise ParameterInvalid(f"{option}TRELLIS2_{name.upper()}: {wrong['msg']}") from error
    except SettingsError as error:
        named = re.search(r'field "(\w+)"', str(error))
        raise ParameterInvalid(f"TRELLIS2_{named[1].upper() if named else '...'} is not JSON") from error


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal; 1 if the service cannot start."""
    try:
        settings = settings_of(arguments)
        log_to_stderr(settings.log_level)
        Service(settings, Role(arguments.role)).run_until_signaled()
    except (ServiceError, OSError) as error:
        print(f"trellis2 serve: {_sentence(error)}", file=sys.stderr)
        return FAILED
    return DONE


def run_create_keys(arguments: argparse.Namespace) -> int:
    """Make a key and print it, alone on stdout so that a script can keep it."""

    def create(store: ObjectStore) -> None:
        days = arguments.days
        if days is not None and not 0 < days <= LONGEST_DAYS:
            raise ParameterInvalid(f"--days: a number above 0, {LONGEST_DAYS} at most")
        record, token = create_key(
            store,
            caller=arguments.caller,
            name=arguments.name,
            scopes=frozenset(Scope(scope) for scope in arguments.scope or Scope),
            limits=_limits(arguments),
            expires_at=store.now() + timedelta(days=days) if days else None,
        )
        if arguments.json:
            print(json.dumps(_body(record) | {"key": token}))
            return
        print(f"{record.id} for {record.caller}; keep the next line, it is not shown again:", file=sys.stderr)
        print(token)

    return _with_store(arguments, create)


def run_list_keys(arguments: argparse.Namespace) -> int:
    def show(store: ObjectStore) -> None:
        for record in list_keys(store):
            _show(record, arguments)

    return _with_store(arguments, show)


def run_revoke_keys(arguments: argparse.Namespace) -> int:
    return _with_store(arguments, lambda store: _show(revoke_key(store, arguments.key_id), arguments))


def _with_store(arguments: argparse.Namespace, work: Callable[[ObjectStore], None]) -> int:
    """Work on the keys; what goes wrong is a line, and an exit code."""
    try:
        work(open_store(settings_of(arguments)))
    except (ServiceError, OSError) as error:
        print(f"trellis2 keys: {_sentence(error)}", file=sys.stderr)
        retryable = getattr(error, "retryable", False)
        if arguments.json:
            code = getattr(error, "code", "file_error")
            print(json.dumps({"error": {"code": code, "detail": _sentence(error), "retryable": retryable}}))
        return UNREACHABLE if retryable else REFUSED
    return DONE


def _limits(arguments: argparse.Namespace) -> CallerLimits:
    given = {name: getattr(arguments, name) for name in CallerLimits.model_fields}
    try:
        return CallerLimits(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ParameterInvalid(f"--{str(wrong['loc'][0]).replace('_', '-')}: {wrong['msg']}") from error


def _show(record: KeyRecord, arguments: argparse.Namespace) -> None:
    print(json.dumps(_body(record)) if arguments.json else _line(record))


def _body(record: KeyRecord) -> dict[str, Any]:
    """Return an API key as JSON for scripts, without its secret and hash."""
    return record.model_dump(mode="json", exclude={"sha256"}) | {"scopes": sorted(record.scopes)}


def _line(record: KeyRecord) -> str:
    ends = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "live"
    if record.expires_at and not record.revoked_at:
        ends = f"expires {record.expires_at:%Y-%m-%d}"
    return f"{record.id}  {record.caller}  {','.join(sorted(record.scopes))}  {ends}  {record.name}"


def _sentence(error: Exception) -> str:
    """Format an error as one line."""
    if not (isinstance(error, OSError) and error.strerror):
        return str(error)
    if error.errno == errno.EADDRINUSE:
        return "the port is in use: choose another with --port"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the service on a free loopback port and the command line client against it; the client's exit code."""
    log_to_stderr("WARNING")
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    service = Service(Settings(host="127.0.0.1", port=0, data_dir=Path("var/demo")))
    service.start()
    print(f"The service is up at {service.base_url}: gateway, queue, store, worker and reconciler in one process.")
    name = arguments.image.stem
    client = [str(Path(sys.executable).with_name("trellis2")), "generate", str(arguments.image)]
    options = ["--url", service.base_url, "--preset", "web", "--pipeline-type", "512", "--seed", "1"]
    files = ["-o", str(out / f"{name}.glb"), "--poster", str(out / f"{name}.webp")]
    try:
        return subprocess.run([*client, *options, *files], check=False).returncode  # noqa: S603 - our own client
    finally:
        service.stop()
