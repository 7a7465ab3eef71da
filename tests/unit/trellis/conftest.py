"""The TRELLIS.2 engine's CPU tests need PyTorch."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[dev]'")
