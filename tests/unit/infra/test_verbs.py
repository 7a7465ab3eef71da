"""The service's verbs: described without the service, run with it."""

import argparse
import subprocess
import sys

import pytest

from api.api_keys import Scope
from infra import verbs
from infra.local import Role

DESCRIBED = """
import argparse, sys
from infra import verbs
subparsers = argparse.ArgumentParser().add_subparsers()
for add in (verbs.add_serve, verbs.add_keys, verbs.add_demo, verbs.add_doctor):
    add(subparsers)
print(*sorted(set(sys.modules) & {"api", "fastapi", "modal", "numpy", "pydantic", "shared", "warp", "worker"}))
"""


def test_describing_the_verbs_loads_no_service() -> None:
    """The help of `trellis2` is there at once."""
    found = subprocess.run([sys.executable, "-c", DESCRIBED], capture_output=True, text=True, check=True)
    assert found.stdout == "\n"


def test_choices_are_those_of_the_service() -> None:
    """They are written down twice: this is where the two are compared."""
    assert set(verbs.ROLES) == {role.value for role in Role}
    assert set(verbs.SCOPES) == {scope.value for scope in Scope}


@pytest.mark.parametrize(
    "argv", [["serve"], ["keys", "create", "me"], ["keys", "list"], ["keys", "revoke", "k"], ["demo"], ["doctor"]]
)
def test_every_verb_leads_to_a_function(argv: list[str]) -> None:
    """Which takes what was parsed."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for add in (verbs.add_serve, verbs.add_keys, verbs.add_demo, verbs.add_doctor):
        add(subparsers)
    arguments = parser.parse_args(argv)
    assert callable(arguments.run.command())
