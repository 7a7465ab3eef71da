"""What the tests on the GPU need; where PyTorch is missing, only this one is collected, and it is skipped."""

import importlib.util


def test_torch_is_installed() -> None:
    """With a GPU, and a checkout of upstream: see conftest."""
    assert importlib.util.find_spec("torch") is not None
