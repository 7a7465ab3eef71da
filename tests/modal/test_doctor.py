"""The doctor's checks of a Modal account, over gRPC."""

import pytest
from grpclib import Status

from bench.fleet.control_plane.server import ControlPlane, Faults
from infra.doctor.checks import Check, modal_checks, print_findings, run_checks
from infra.settings.modal import ModalSettings


def printed(checks: list[Check]) -> list[str]:
    """The printed lines."""
    lines: list[str] = []
    print_findings(run_checks([checks]), lines.append)
    return lines


@pytest.mark.usefixtures("control_plane")
def test_an_account_that_has_everything_passes() -> None:
    """The token, then the two secrets with the keys that they must have."""
    assert printed(modal_checks(ModalSettings())) == [
        "ok      packages for Modal",
        "ok      Modal token",
        "ok      Modal secret trellis2-bucket",
        "ok      Modal secret huggingface",
    ]


def test_a_token_that_modal_does_not_know_comes_first(control_plane: ControlPlane) -> None:
    """Nothing else can be asked without one."""
    control_plane.faults["ClientHello"] = Faults(fail_before=1.0, status=Status.UNAUTHENTICATED)
    _, line = printed(modal_checks(ModalSettings()))
    assert line.startswith("failed  Modal token: AuthError")
    assert line.endswith("modal token new")


def test_a_missing_secret_comes_with_the_command_that_creates_it(control_plane: ControlPlane) -> None:
    """With its name and the keys it must have."""
    control_plane.missing_secrets = {"trellis2-bucket"}
    *_, line = printed(modal_checks(ModalSettings()))
    assert line.startswith("failed  Modal secret trellis2-bucket: NotFoundError")
    assert "modal secret create trellis2-bucket TRELLIS2_BUCKET=" in line
