"""The worker class in Modal's own container runtime: it runs invocations and releases its jobs when interrupted."""

import os
import signal
import time
from pathlib import Path

import pytest
from grpclib import Status as GrpcStatus

from bench.fleet.control_plane.server import ControlPlane, Faults
from bench.fleet.modal_fleet import build_modal_queue, new_queue_name
from shared.domain.job import Status
from tests.support.modal_harness import ModalHarness, deploy
from tests.support.waiting import HANG_S


@pytest.fixture
def modal(control_plane: ControlPlane, tmp_path: Path) -> ModalHarness:
    """A deployment without a GPU, and a bucket for it."""
    name = new_queue_name()
    deploy(control_plane, TRELLIS2_GPU="", TRELLIS2_APP_NAME=name)
    return ModalHarness(control_plane, tmp_path, build_modal_queue(name))


def test_container_runs_its_invocation_and_spawns_more_for_waiting_jobs(modal: ModalHarness) -> None:
    """Three jobs, two without an invocation: all succeed, and no input counts as failed."""
    job_list = [modal.submit()]
    modal.plane.faults["FunctionMap"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_list += [modal.submit() for _ in range(2)]
    modal.plane.reset_faults()
    with modal.run_container("Worker.*", method="run"):
        ends = [modal.wait_for(job_id, Status.SUCCEEDED, Status.FAILED) for job_id in job_list]
    assert [(job.status, job.attempt) for job in ends] == [(Status.SUCCEEDED, 1)] * 3
    assert set(modal.plane.inputs_ended) <= {"GENERIC_STATUS_SUCCESS"}


def test_fault_8_interrupted_container_releases_its_job(modal: ModalHarness) -> None:
    """Modal preempts by SIGINT. The job is queued again, and no crash or failure is counted."""
    job_id = modal.submit("max_quality")
    with modal.run_container("Worker.*", method="run") as container:
        modal.wait_for(job_id, Status.RUNNING)
        container.send_signal(signal.SIGINT)
        job = modal.wait_for(job_id, Status.QUEUED)
        container.wait(HANG_S)
    assert (job.attempt, job.crashes, job.failures) == (1, 0, 0)


# What Python runs first in a container whose GPU fails under its first job.
FAILING_GPU = """
from shared.errors import WorkerUnfit
from worker.engines.relief import Relief

def sample(*_):
    raise WorkerUnfit("the GPU failed")

Relief.sample = sample
"""


@pytest.fixture
def failing_gpu(tmp_path: Path) -> str:
    """A PYTHONPATH whose first folder breaks the GPU."""
    folder = tmp_path / "failing"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAILING_GPU)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_fault_9_container_with_a_failed_gpu_stops_taking_inputs_and_ends(
    modal: ModalHarness, failing_gpu: str
) -> None:
    """Without an error; its job is queued again, and no crash or failure is counted."""
    job_id = modal.submit()
    with modal.run_container("Worker.*", method="run", PYTHONPATH=failing_gpu) as container:
        assert container.wait(HANG_S) == 0
    job = modal.jobs.read(job_id).record
    assert (job.status, job.attempt, job.crashes, job.failures) == (Status.QUEUED, 1, 0, 0)
    assert modal.plane.stopped
    assert set(modal.plane.inputs_ended) == {"GENERIC_STATUS_SUCCESS"}


def test_fault_9_container_with_a_failed_gpu_ends_though_modal_refuses_the_stop(
    modal: ModalHarness, failing_gpu: str
) -> None:
    """Otherwise it would take more jobs to a broken GPU."""
    modal.submit()
    modal.plane.faults["ContainerStop"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    with modal.run_container("Worker.*", method="run", PYTHONPATH=failing_gpu) as container:
        container.wait(HANG_S)
    assert modal.statuses() == {Status.QUEUED}


def test_fault_3_reconciler_spawns_the_invocation_that_a_job_lost(modal: ModalHarness) -> None:
    """Another function of the app looks up the worker class and sends it an input."""
    modal.plane.faults["QueuePut"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = modal.submit()
    modal.plane.reset_faults()
    modal.plane.enqueue_input("fu-reconciler")
    with modal.run_container("reconciler"):
        until = time.monotonic() + HANG_S
        while not modal.plane.inputs_ended and time.monotonic() < until:
            time.sleep(0.05)
    assert modal.plane.inputs_ended == {"GENERIC_STATUS_SUCCESS": 1}
    assert modal.plane.spawned["fu-Worker.*"] == 1
    assert modal.queue.dequeue() == job_id
