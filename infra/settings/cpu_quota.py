"""Sizes thread pools to the cores that a container may use, not to those of its host."""

import os
import random

# What the libraries read when they are first imported.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def pool_variables(cores: float) -> dict[str, str]:
    """The environment for a container of that many cores."""
    return dict.fromkeys(VARIABLES, str(max(1, int(cores))))


def size_pools(cores: float) -> None:
    """Narrow this process's CPU affinity to its quota, before any library counts it.

    xatlas and others take `hardware_concurrency` threads, which on Linux is the affinity's size: without this they
    start one for every core of the host and get in each other's way.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = list(os.sched_getaffinity(0))
        # Any of them: neighbours on the same host that all took the first ones would share those.
        os.sched_setaffinity(0, random.sample(allowed, min(len(allowed), max(1, int(cores)))))


def half_the_cores(at_most: int = 4) -> int:
    """Half of the cores that this process may use, between 1 and `at_most`: the other half answers and simplifies."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(at_most, max(1, cores // 2))
