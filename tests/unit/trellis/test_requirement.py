"""What the tests of the TRELLIS.2 engine need."""

import importlib.util

import pytest


def test_torch_is_installed() -> None:
    """The development extra brings it: the other tests here are left out without it."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install -e '.[dev]'")
