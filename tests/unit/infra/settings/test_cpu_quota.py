"""Thread pools go by the container's cores, not by the host's."""

import os
import subprocess
import sys

import pytest

from infra.settings.modal import pool_variables


def test_pools_are_told_their_size_before_anything_is_imported() -> None:
    """By the environment, rounded down; one thread at least."""
    assert pool_variables(8.0)["OMP_NUM_THREADS"] == "8"
    assert pool_variables(0.25)["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has it")
def test_a_process_counts_only_the_cores_of_its_quota() -> None:
    """What `hardware_concurrency` goes by."""
    program = (
        "import os; from infra.settings.modal import size_pools; size_pools(1.0);print(len(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
