"""The service's verbs: described without the service, run with it."""

import argparse
import subprocess
import sys
from pkgutil import resolve_name

import pytest

from api.limits.api_keys import Scope
from infra.cli import parsers
from infra.local import Role

DESCRIBED = """
import argparse, sys
from infra.cli import parsers
subparsers = argparse.ArgumentParser().add_subparsers()
for add in (parsers.add_serve, parsers.add_keys, parsers.add_demo, parsers.add_doctor):
    add(subparsers)
print(*sorted(set(sys.modules) & {"api", "fastapi", "modal", "numpy", "pydantic", "shared", "warp", "worker"}))
"""


def test_describing_the_verbs_loads_no_service() -> None:
    """The help of `trellis2` is there at once."""
    found = subprocess.run([sys.executable, "-c", DESCRIBED], capture_output=True, text=True, check=True)
    assert found.stdout == "\n"


def test_choices_are_those_of_the_service() -> None:
    """They are written down twice: this is where the two are compared."""
    assert set(parsers.ROLES) == {role.value for role in Role}
    assert set(parsers.SCOPES) == {scope.value for scope in Scope}


@pytest.mark.parametrize(
    "argv", [["serve"], ["keys", "create", "me"], ["keys", "list"], ["keys", "revoke", "k"], ["demo"], ["doctor"]]
)
def test_every_verb_leads_to_a_function(argv: list[str]) -> None:
    """Which takes what was parsed."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for add in (parsers.add_serve, parsers.add_keys, parsers.add_demo, parsers.add_doctor):
        add(subparsers)
    arguments = parser.parse_args(argv)
    assert callable(resolve_name(*arguments.run.args))
