"""The deployment's settings from the environment of the command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings.modal import GPU_USD_PER_S, ModalSettings, pool_variables, usd_per_s_of
from infra.settings.service import Settings
from shared.domain.job import Lane

DOCS = Path(__file__).parents[4] / "docs"
DEPLOY, OPERATIONS = DOCS / "deploy.md", DOCS / "operations.md"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces do not matter."""
    monkeypatch.setenv("TRELLIS2_GPU", "H100, L40S")
    monkeypatch.setenv("TRELLIS2_LANES", "interactive,batch")
    layout = ModalSettings()
    assert (layout.gpu, layout.lanes) == (("H100", "L40S"), (Lane.INTERACTIVE, Lane.BATCH))


EVERYTHING = {
    "APP_NAME": "studio",
    "GPU": "",
    "MAX_CONTAINERS": "3",
    "MIN_CONTAINERS": "1",
    "SCALEDOWN_WINDOW_S": "60",
    "REGION": "eu",
    "LANES": "interactive,batch",
    "WORKER_CPU": "4",
    "WORKER_MEMORY_MIB": "8192",
    "GATEWAY_CPU": "0.5",
    "GATEWAY_MIN_CONTAINERS": "1",
    "GATEWAY_MAX_CONTAINERS": "2",
    "PROXY_AUTH": "true",
    "GPU_SNAPSHOT": "true",
    "BUCKET_SECRET": "a-bucket",
    "HUGGINGFACE_SECRET": "a-hub",
    "WEIGHTS_VOLUME": "a-volume",
}


def test_a_container_lays_itself_out_as_it_was_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the app's module again: with other settings, weights would load after a snapshot instead of before."""
    assert {name.lower() for name in EVERYTHING} == set(ModalSettings.model_fields)
    for name, value in EVERYTHING.items():
        monkeypatch.setenv(f"TRELLIS2_{name}", value)
    deployed = ModalSettings()
    variables = deployed.environment()
    for name in EVERYTHING:
        monkeypatch.delenv(f"TRELLIS2_{name}")
    assert ModalSettings() != deployed
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    assert ModalSettings() == deployed


def test_every_setting_that_the_manual_names_reaches_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is exported at the deployment has its effect."""
    rows = re.findall(r"^\| (`[A-Z0-9_`, ]+) \|", DEPLOY.read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"[A-Z][A-Z0-9_]+", row)}
    runbook = re.findall(r"`(?:TRELLIS2_)?([A-Z][A-Z0-9_]+)(?:=[a-z]+)?`", OPERATIONS.read_text())
    ours = {field.upper() for field in {*ModalSettings.model_fields, *Settings.model_fields}}
    for name in ours:
        monkeypatch.setenv(f"TRELLIS2_{name}", EVERYTHING.get(name, "1"))
    variables = {name.removeprefix("TRELLIS2_") for name in ModalSettings().environment()}
    assert named - variables == set()
    assert (set(runbook) & ours) - variables == set()


def test_with_a_gpu_trellis_is_the_default_engine() -> None:
    """And `relief` may still be asked for."""
    assert ModalSettings(gpu=("H100",)).engines == ("trellis", "relief")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40S", "L40S"),
    ],
)
def test_a_second_costs_what_the_gpu_that_came_costs(name: str, kind: str) -> None:
    """Not what the one costs that was asked for first."""
    assert usd_per_s_of(name) == GPU_USD_PER_S[kind]


def test_an_unknown_gpu_costs_nothing_known() -> None:
    """Better no figure than a wrong one."""
    assert usd_per_s_of("NVIDIA T4") == 0.0


# --- thread pools


def test_pools_get_their_size_before_any_import() -> None:
    """By the environment, rounded down; one thread at least."""
    assert pool_variables(8.0)["OMP_NUM_THREADS"] == "8"
    assert pool_variables(0.25)["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has it")
def test_a_process_counts_only_the_cores_of_its_quota() -> None:
    """What `hardware_concurrency` goes by."""
    program = (
        "import os; from infra.settings.modal import size_pools; size_pools(1.0);print(len(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
