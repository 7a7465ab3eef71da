"""These tests need an NVIDIA GPU and a checkout of the TRELLIS.2 repository, named in TRELLIS2_UPSTREAM."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_[!r]*.py"]


@pytest.fixture(scope="session", autouse=True)
def _upstream() -> Iterator[None]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    checkout = os.environ.get("TRELLIS2_UPSTREAM")
    if not checkout:
        pytest.skip("TRELLIS2_UPSTREAM names no checkout of the TRELLIS.2 repository")
    from bench.trellis import upstream

    upstream.add_to_path(Path(checkout))
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
        yield
