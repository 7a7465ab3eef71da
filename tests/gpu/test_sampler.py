"""Our sampler against the real package's: same weights, noise, schedule and guidance, twelve steps."""

from collections.abc import Iterator

import pytest

from bench.trellis.sampler import STAGES, Pair, Stage, build_pairs, measure, record_graphs


@pytest.fixture(scope="module")
def coarse() -> Iterator[dict[str, Pair]]:
    """The models at full size in bfloat16, the structure's recorded."""
    made = build_pairs("bfloat16", 30)
    record_graphs(made)
    yield made
    made.clear()


@pytest.fixture(scope="module")
def fine() -> dict[str, Pair]:
    """The models at full width in float32, two blocks deep."""
    return build_pairs("float32", 2)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_sample_in_bfloat16_is_upstreams(coarse: dict[str, Pair], stage: Stage) -> None:
    """To 2 %: about as far as upstream's own rounding is from float32."""
    (row,) = measure(coarse, [stage])
    assert row.error < 0.02


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_sample_in_float32_is_upstreams(fine: dict[str, Pair], stage: Stage) -> None:
    """To 1e-4."""
    (row,) = measure(fine, [stage])
    assert row.error < 1e-4
