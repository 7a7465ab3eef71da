"""How the service is laid out on Modal, from the environment of whoever deploys it."""

import pytest

from infra.modal_settings import GPU_USD_PER_S, GPU_WORDS, ModalSettings, usd_per_s_of
from shared.ports import Lane


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces do not matter."""
    monkeypatch.setenv("TRELLIS2_GPU", "H100, L40S")
    monkeypatch.setenv("TRELLIS2_LANES", "interactive,batch")
    layout = ModalSettings()
    assert (layout.gpu, layout.lanes) == (("H100", "L40S"), (Lane.INTERACTIVE, Lane.BATCH))


def test_a_container_reads_what_was_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings come out as they went in."""
    monkeypatch.setenv("TRELLIS2_MAX_CONTAINERS", "3")
    monkeypatch.setenv("TRELLIS2_GPU", "")
    deployed = ModalSettings()
    told = deployed.environment()
    monkeypatch.delenv("TRELLIS2_MAX_CONTAINERS")
    monkeypatch.delenv("TRELLIS2_GPU")
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    there = ModalSettings()
    assert (there.ceiling, there.engines, there.lanes) == (6, ("relief",), deployed.lanes)


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
    assert GPU_WORDS.keys() == GPU_USD_PER_S.keys()
