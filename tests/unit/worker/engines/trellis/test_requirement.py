"""What the tests of the TRELLIS.2 engine need."""

import importlib.util


def test_torch_is_installed() -> None:
    """The development extra installs it; without it the tests in this folder would be skipped silently."""
    assert importlib.util.find_spec("torch") is not None, "PyTorch is not installed: pip install -e '.[dev]'"
