"""What `trellis2 serve` and `trellis2 keys` do."""

import argparse
import sys
from datetime import timedelta

from pydantic import ValidationError

from api.api_keys import KeyRecord, Scope, create_key, list_keys, revoke_key
from api.caller_limits import CallerLimits
from infra.local import Role, Service
from infra.parts import open_store
from infra.settings import Settings
from shared.errors import ParameterInvalid, ServiceError
from shared.log import log_to_stderr


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


def run_create_key(arguments: argparse.Namespace) -> int:
    """Make a key and print it, alone on stdout so that a script can keep it."""
    try:
        store = open_store(settings_of(arguments))
        expires_at = store.now() + timedelta(days=arguments.days) if arguments.days else None
        record, token = create_key(
            store,
            caller=arguments.caller,
            name=arguments.name,
            scopes=frozenset(Scope(scope) for scope in arguments.scope or Scope),
            limits=_limits(arguments),
            expires_at=expires_at,
        )
    except ServiceError as error:
        return _refused(error)
    print(f"{record.id} for {record.caller}; keep the next line, it is not shown again:", file=sys.stderr)
    print(token)
    return 0


def _limits(arguments: argparse.Namespace) -> CallerLimits:
    given = {name: getattr(arguments, name) for name in CallerLimits.model_fields}
    try:
        return CallerLimits(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ParameterInvalid(f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error


def run_list_keys(arguments: argparse.Namespace) -> int:
    """Print every key, a line each."""
    try:
        for record in list_keys(open_store(settings_of(arguments))):
            print(_line(record))
    except ServiceError as error:
        return _refused(error)
    return 0


def run_revoke_key(arguments: argparse.Namespace) -> int:
    """Close a key."""
    try:
        print(_line(revoke_key(open_store(settings_of(arguments)), arguments.key_id)))
    except ServiceError as error:
        return _refused(error)
    return 0


def _line(record: KeyRecord) -> str:
    ends = f"revoked {record.revoked_at:%Y-%m-%d}" if record.revoked_at else "live"
    if record.expires_at and not record.revoked_at:
        ends = f"expires {record.expires_at:%Y-%m-%d}"
    return f"{record.id}  {record.caller}  {','.join(sorted(record.scopes))}  {ends}  {record.name}"


def _refused(error: ServiceError) -> int:
    print(f"trellis2 keys: {error}", file=sys.stderr)
    return 1
