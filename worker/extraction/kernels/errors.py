"""Gives what Warp raises where a GPU has no room left the name that the worker knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import GpuOutOfMemory

NO_ROOM = "Failed to allocate"  # what Warp says, of any device


@contextmanager
def translate_gpu_errors() -> Iterator[None]:
    """Translate what is raised inside.

    Raises:
        GpuOutOfMemory: the device has no room for it.
    """
    try:
        yield
    except RuntimeError as error:
        if NO_ROOM not in str(error):
            raise
        raise GpuOutOfMemory("the job needs more memory than the GPU has: ask for a lower pipeline_type") from error
