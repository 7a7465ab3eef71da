"""Warp's set-up, the GPU lock, the translation of GPU errors, and mesh queries."""

import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import warp as wp

from shared.errors import GpuOutOfMemory, JobStopped
from tests.unit.worker.extraction.conftest import triangle
from worker.extraction.kernels import runtime
from worker.extraction.kernels.runtime import gpu_lock, translate_gpu_errors

WAIT_S = 600.0  # so long that only a deadlock exceeds it


class DeviceMemory:
    """What an extraction holds on the device."""


def not_canceled() -> None:
    """A `check_canceled` of a job that goes on."""


@pytest.mark.parametrize(("variables", "folder"), [({}, "given"), ({"WARP_CACHE_PATH": "warps"}, "warps")])
def test_set_cache_uses_the_given_folder_unless_warps_variable_names_another_and_prints_nothing(
    variables: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a banner nor a warning that there is no GPU."""
    monkeypatch.delenv("WARP_CACHE_PATH", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    program = (
        "import sys; from pathlib import Path; import warp as wp; from worker.extraction.kernels import runtime; "
        "from worker.extraction.render import poster; "
        "runtime.set_cache(Path(sys.argv[1])); print(wp.config.kernel_cache_dir)"
    )
    command = [sys.executable, "-c", program, tmp_path / "given"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (Path(run.stdout.strip()).parent, run.stderr) == (tmp_path / folder, "")


def test_gpu_lock_admits_one_thread_at_a_time() -> None:
    """The second thread enters after the first has left, and checks for a cancel while it waits."""
    entered, checked, left = list[str](), threading.Event(), threading.Event()

    def extract_second() -> None:
        with gpu_lock("cuda:0", checked.set):
            assert left.is_set()
            entered.append("second")

    with ThreadPoolExecutor(1) as pool:
        with gpu_lock("cuda:0", not_canceled):
            waiting = pool.submit(extract_second)
            assert checked.wait(WAIT_S)
            assert entered == []
            left.set()
        waiting.result(WAIT_S)
    assert entered == ["second"]


def test_gpu_lock_does_not_wait_on_the_cpu() -> None:
    """Two threads are inside at once."""
    barrier = threading.Barrier(2)

    def extract() -> int:
        with gpu_lock("cpu", not_canceled):
            return barrier.wait(WAIT_S)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(extract), pool.submit(extract)]
        assert {run.result(WAIT_S) for run in runs} == {0, 1}


def test_a_thread_that_waits_for_the_gpu_lock_can_be_canceled() -> None:
    """It never enters, and the lock is free for the next thread."""

    def cancel() -> None:
        raise JobStopped

    def extract_second() -> None:
        with gpu_lock("cuda:0", cancel):
            pytest.fail("a canceled job entered")

    with ThreadPoolExecutor(1) as pool, gpu_lock("cuda:0", not_canceled), pytest.raises(JobStopped):
        pool.submit(extract_second).result(WAIT_S)
    with gpu_lock("cuda:0", not_canceled):
        pass


def test_memory_of_a_failed_extraction_is_freed_before_the_next_one() -> None:
    """Although the caller still has the error, its traceback, and through it the frames."""
    references = list[weakref.ref[DeviceMemory]]()

    def fail() -> None:
        memory = DeviceMemory()
        references.append(weakref.ref(memory))
        raise ValueError

    try:
        with gpu_lock("cuda:0", not_canceled):
            fail()
    except ValueError:
        with gpu_lock("cuda:0", not_canceled):
            assert references[0]() is None
    else:
        pytest.fail("it did not fail")


def test_failed_allocation_becomes_gpu_out_of_memory() -> None:
    """With Warp's own message: here for a device that has less than an exabyte."""
    with pytest.raises(GpuOutOfMemory, match="pipeline_type"), translate_gpu_errors():
        wp.empty((1 << 30, 1 << 27), dtype=wp.int64, device="cpu")


def test_other_runtime_errors_pass_through() -> None:
    """Also one without a message."""
    with pytest.raises(RuntimeError, match=r"^$"), translate_gpu_errors():
        raise RuntimeError


def test_find_closest_points_of_a_triangle() -> None:
    """Above its inside, its edge and its corner."""
    surface = runtime.build_bvh(triangle().vertices, triangle().faces, "cpu")
    points = np.array([[0, 0, 0.1], [0, -0.5, 0], [0.5, -0.3, 0]], np.float32)
    closest, distance = runtime.find_closest_points(surface, points)
    assert closest == pytest.approx(np.array([[0, 0, 0], [0, -0.3, 0], [0.3, -0.3, 0]]), abs=1e-6)
    assert distance == pytest.approx([0.1, 0.2, 0.2], abs=1e-6)


def test_cast_rays_returns_the_first_hit_within_reach() -> None:
    """From the front, from behind, past the triangle, and from too far away."""
    surface = runtime.build_bvh(triangle().vertices, triangle().faces, "cpu")
    origins = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 1], [0, 0, 9]], np.float32)
    directions = np.array([[0, 0, -1], [0, 0, 1], [0, 0, -1], [0, 0, -1]], np.float32)
    face, cosine = runtime.cast_rays(surface, origins, directions, reach=2.0)
    assert face.tolist() == [0, 0, -1, -1]
    assert cosine[:2] == pytest.approx([-1, 1])
