"""The doctor runs all checks in order, and prints of each failure what fixes it."""

import subprocess
import sys

import httpx
import pytest

from infra.doctor.checks import (
    Check,
    CheckFailed,
    Finding,
    gpu_checks,
    licence_checks,
    modal_checks,
    print_findings,
    run_checks,
)
from infra.doctor.command import check_from_here, compare_buckets
from infra.modal_app.weights import Source, open_hub
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings
from tests.support.hub_server import REPO, REVISION, TOKEN, HubServer


def passes() -> None:
    """A condition that holds."""


def fails() -> None:
    """A condition that does not hold."""
    raise CheckFailed("it is gone")


def printed(*groups: list[Check]) -> tuple[bool, list[str]]:
    """Whether all checks passed, and the printed lines."""
    lines: list[str] = []
    return print_findings(run_checks(groups), lines.append), lines


def test_the_result_is_true_only_if_every_check_passes() -> None:
    """A line for each."""
    assert printed([Check("a", passes, "")], [Check("b", passes, "")]) == (True, ["ok      a", "ok      b"])


def test_a_failure_is_printed_with_its_reason_and_its_command() -> None:
    """So that it can be fixed without a manual."""
    all_passed, (line,) = printed([Check("token", fails, "modal token new")])
    assert (all_passed, line) == (False, "failed  token: it is gone\n        modal token new")


def test_a_failure_ends_its_own_group_alone() -> None:
    """A bucket that is not reachable has no limits to check; but every model is checked."""
    _, lines = printed([Check("a", fails, ""), Check("on a", passes, "")], [Check("b", passes, "")])
    assert [line.split(":")[0] for line in lines] == ["failed  a", "ok      b"]


def test_a_service_that_does_not_answer_is_a_failure_not_a_crash() -> None:
    """The reason is printed."""

    def silent() -> None:
        raise httpx.ConnectError("no route")

    assert printed([Check("hub", silent, "")])[0] is False


def test_a_model_is_open_to_a_token_whose_owner_accepted_its_licence() -> None:
    """The failure names the page where the licence is accepted."""
    source = Source(REPO, REVISION, ("config.json",), is_gated=True)
    with HubServer({}).running() as server:
        assert printed(*licence_checks(open_hub(TOKEN, endpoint=server.url), "renew", [source]))[0]
        all_passed, (line,) = printed(*licence_checks(open_hub("hf_other", endpoint=server.url), "renew", [source]))
    assert not all_passed
    assert line.splitlines()[1].strip() == f"accept its licence at https://huggingface.co/{REPO}, or renew"


def test_the_doctor_reports_missing_packages_without_importing_them() -> None:
    """The first thing that a new user lacks is Modal's own package, and `huggingface_hub`."""
    program = "import sys, infra.doctor.command; print({'modal', 'huggingface_hub'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_checks_of_modal_come_in_the_order_in_which_they_are_fixed() -> None:
    """The packages, the token, the bucket's secret, the Hub's; without a GPU the last one is not needed."""
    checks = modal_checks(ModalSettings())
    assert [check.fix.partition(" TRELLIS2_")[0] for check in checks] == [
        "pip install -e '.[modal]'",
        "modal token new",
        "modal secret create trellis2-bucket",
        "modal secret create huggingface HF_TOKEN=hf_...",
    ]
    assert len(modal_checks(ModalSettings(gpu=()))) == 3


def test_another_bucket_on_this_machine_is_a_failure() -> None:
    """Keys created from here would be where the service does not read; no secret is printed."""
    local = Settings(bucket="mine", s3_endpoint="https://s3.test", s3_secret_key="s3cret")
    assert compare_buckets("mine at https://s3.test", local).problem == ""
    finding = compare_buckets("theirs at AWS", local)
    assert finding.problem == "the secret's is theirs at AWS, this machine's mine at https://s3.test"
    assert "s3cret" not in finding.problem + finding.fix


def test_a_bucket_without_a_name_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default name is another owner's bucket."""
    monkeypatch.delenv("TRELLIS2_BUCKET", raising=False)
    (finding,) = check_from_here(ModalSettings(gpu=()), Settings(store="s3"))
    assert finding == Finding("bucket", "TRELLIS2_BUCKET is not set", finding.fix)


class NoGpu:
    """A call whose container never starts."""

    def get(self, *, timeout: float) -> str:
        """Wait in vain."""
        raise TimeoutError(timeout)


def test_a_gpu_that_does_not_start_is_a_failure_with_what_a_plan_may_have() -> None:
    """Modal queues what a plan does not allow, rather than refuse it."""
    all_passed, (line,) = printed(gpu_checks(ModalSettings(), NoGpu))
    assert not all_passed
    assert line.startswith("failed  GPU A100-80GB or H100 starts: none started within 300 s")
