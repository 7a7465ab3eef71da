"""The doctor looks at everything in order, and says of each gap what mends it."""

import subprocess
import sys

import httpx
import pytest

from infra.doctor.check import Check, CheckFailed, Finding, find, tell
from infra.doctor.command import same_bucket, seen_from_here
from infra.doctor.modal import gpu_checks, modal_checks
from infra.doctor.models import licence_checks
from infra.modal_app.weights import Hub, Source
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings


def fine() -> None:
    """As it must be."""


def gone() -> None:
    """Not as it must be."""
    raise CheckFailed("it is gone")


def told(*groups: list[Check]) -> tuple[bool, list[str]]:
    """The verdict, and what was said."""
    lines: list[str] = []
    return tell(find(groups), lines.append), lines


def test_all_is_well_only_if_every_check_passes() -> None:
    """A line for each."""
    assert told([Check("a", fine, "")], [Check("b", fine, "")]) == (True, ["ok     a", "ok     b"])


def test_a_gap_comes_with_its_reason_and_its_command() -> None:
    """So that it can be mended without a manual."""
    is_well, (line,) = told([Check("token", gone, "modal token new")])
    assert (is_well, line) == (False, "lacks  token: it is gone\n       modal token new")


def test_a_gap_hides_what_rests_on_it_and_nothing_else() -> None:
    """Nobody is told of a bucket's limits who cannot reach the bucket; but all the models are looked at."""
    _, lines = told([Check("a", gone, ""), Check("on a", fine, "")], [Check("b", fine, "")])
    assert [line.split(":")[0] for line in lines] == ["lacks  a", "ok     b"]


def test_a_service_that_does_not_answer_is_a_gap_not_a_crash() -> None:
    """Whatever breaks on the way is said."""

    def silent() -> None:
        raise httpx.ConnectError("nobody there")

    assert told([Check("hub", silent, "")])[0] is False


def test_a_model_is_open_to_whoever_accepted_its_licence() -> None:
    """403 before, 200 after."""
    source = Source("maker/model", "c0ffee", ("config.json",), is_gated=True)
    for status, is_well in ((200, True), (403, False)):
        hub = Hub("hf_x", transport=httpx.MockTransport(lambda _, status=status: httpx.Response(status)))
        assert told(*licence_checks(hub, "another token", [source]))[0] is is_well


def test_the_doctor_needs_nothing_of_modal_to_say_that_it_is_missing() -> None:
    """The first thing that a newcomer lacks is Modal's own package."""
    program = "import sys, infra.doctor.command; print('modal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_is_asked_of_modal_comes_in_the_order_in_which_it_is_mended() -> None:
    """Its package, the token, the bucket's secret, the Hub's; without a GPU nobody needs the last one."""
    checks = modal_checks(ModalSettings())
    assert [check.fix.partition(" TRELLIS2_")[0] for check in checks] == [
        "pip install -e '.[modal]'",
        "modal token new",
        "modal secret create trellis2-bucket",
        "modal secret create huggingface HF_TOKEN=hf_...",
    ]
    assert len(modal_checks(ModalSettings(gpu=()))) == 3


def test_a_bucket_that_this_machine_does_not_mean_is_a_gap() -> None:
    """Keys made from here would lie where the service does not look; no secret is shown."""
    here = Settings(bucket="mine", s3_endpoint="https://s3.test", s3_secret_key="s3cret")
    assert same_bucket("mine at https://s3.test", here).problem == ""
    other = same_bucket("theirs at AWS", here)
    assert other.problem == "the secret's is theirs at AWS, this machine's mine at https://s3.test"
    assert "s3cret" not in other.problem + other.fix


def test_a_bucket_that_nobody_named_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default's name would be somebody else's bucket."""
    monkeypatch.delenv("TRELLIS2_BUCKET", raising=False)
    (gap,) = seen_from_here(ModalSettings(gpu=()), Settings(store="s3"))
    assert gap == Finding("bucket", "TRELLIS2_BUCKET is not set", gap.fix)


class NoGpu:
    """A call whose container never comes."""

    def get(self, *, timeout: float) -> str:
        """Wait in vain."""
        raise TimeoutError(timeout)


def test_a_gpu_that_does_not_come_is_a_gap_with_what_a_plan_may_have() -> None:
    """Modal queues what a plan does not allow, rather than refuse it."""
    is_well, (line,) = told(gpu_checks(ModalSettings(), NoGpu))
    assert not is_well
    assert line.startswith("lacks  GPU A100-80GB or H100 starts: none came within 300 s")
