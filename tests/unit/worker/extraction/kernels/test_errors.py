"""A device without room is told from a bug."""

import pytest
import warp as wp

from shared.errors import GpuOutOfMemory
from worker.extraction.kernels.errors import translate_gpu_errors


def test_device_without_room_is_named() -> None:
    """As Warp tells of it: here of a device that has less than an exabyte."""
    with pytest.raises(GpuOutOfMemory, match="pipeline_type"), translate_gpu_errors():
        wp.empty((1 << 30, 1 << 27), dtype=wp.int64, device="cpu")


def test_anything_else_stays_what_it_is() -> None:
    """Also where it says nothing."""
    with pytest.raises(RuntimeError, match=r"^$"), translate_gpu_errors():
        raise RuntimeError
