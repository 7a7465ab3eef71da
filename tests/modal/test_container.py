"""The worker class in Modal's own container runtime: it enters, runs tickets, hands its jobs back when it must go."""

import hashlib
import os
import signal
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpclib import Status as GrpcStatus

from bench.fleet.control_plane.server import ControlPlane, Faults
from bench.fleet.modal_fleet import build_modal_queue, new_queue_name
from bench.support.processes import draw_test_image
from infra.embedded_store.store import SqliteStore
from infra.modal_app.queue import ModalQueue
from infra.settings.service import Settings
from shared.domain.job import Input, Job, Status
from shared.domain.parameters import resolve
from shared.errors import QueueUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.modal.containers import running
from tests.modal.test_deployment import deployed
from tests.modal.test_roles import COMPILED
from tests.support.fakes import new_job
from tests.support.waiting import HANG_S


@dataclass
class House:
    """A bucket in a folder, the doorbell, and what was deployed."""

    plane: ControlPlane
    folder: Path
    queue: ModalQueue

    def __post_init__(self) -> None:
        secret = Settings(data_dir=self.folder).signing_secret()
        self.jobs = build_job_repository(SqliteStore(self.folder / "store", secret=secret))

    def submit(self, preset: str = "low_poly") -> str:
        """One job, rung for as far as that goes; its id."""
        body = draw_test_image(256)
        job = new_job(self.jobs.now(), parameters=resolve({"seed": 1, "pipeline_type": "512"}, preset))
        key = keys.job_input(job.id, "png")
        stored = Input(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        self.jobs.reserve(job)
        self.jobs.store.put(key, body)
        self.jobs.create(job.model_copy(update={"input": stored}))
        with suppress(QueueUnavailable):
            self.queue.enqueue([job.id], job.lane)
        return job.id

    def running(
        self, function: str, method: str = "", **besides: str
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A container of one function; the bucket that its secret names is a folder."""
        secret = {
            **besides,
            "TRELLIS2_STORE": "embedded",
            "TRELLIS2_DATA_DIR": str(self.folder),
            "TRELLIS2_REQUEUE_AFTER_S": "0",
        }
        return running(self.plane, function, folder=self.folder, environment=secret, method=method)

    def statuses(self) -> set[Status]:
        """Where the jobs stand."""
        return {self.jobs.read(marker.job_id).record.status for marker in self.jobs.pending_markers()}

    def wait_for(self, job_id: str, *wanted: Status, within_s: float = HANG_S) -> Job:
        """The job, once it stands there."""
        until = time.monotonic() + within_s
        while (job := self.jobs.read(job_id).record).status not in wanted:
            assert time.monotonic() < until, f"the job is {job.status}"
            time.sleep(0.05)
        return job


@pytest.fixture
def house(control_plane: ControlPlane, tmp_path: Path) -> House:
    """A deployment without a GPU, and a bucket for it."""
    name = new_queue_name()
    deployed(control_plane, TRELLIS2_GPU="", TRELLIS2_APP_NAME=name)
    COMPILED.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kernels").symlink_to(COMPILED)
    return House(control_plane, tmp_path, build_modal_queue(name))


def test_a_container_runs_its_ticket_and_sends_others_for_what_waits(house: House) -> None:
    """Three jobs, of which two lost their tickets: all succeed, and no input counts as failed."""
    job_list = [house.submit()]
    house.plane.faults["FunctionMap"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_list += [house.submit() for _ in range(2)]
    house.plane.reset_faults()
    with house.running("Worker.*", method="run"):
        ends = [house.wait_for(job_id, Status.SUCCEEDED, Status.FAILED) for job_id in job_list]
    assert [(job.status, job.attempt) for job in ends] == [(Status.SUCCEEDED, 1)] * 3
    assert set(house.plane.inputs_ended) <= {"GENERIC_STATUS_SUCCESS"}


def test_fault_8_a_container_that_is_interrupted_hands_its_job_back(house: House) -> None:
    """As Modal preempts it: SIGINT, and thirty seconds. The job is queued again within five, held against nobody."""
    job_id = house.submit("max_quality")
    with house.running("Worker.*", method="run") as container:
        house.wait_for(job_id, Status.RUNNING)
        container.send_signal(signal.SIGINT)
        job = house.wait_for(job_id, Status.QUEUED, within_s=5.0)
        container.wait(30)
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
    """The container's PYTHONPATH, with a folder in front."""
    folder = tmp_path / "failing"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAILING_GPU)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_fault_9_a_container_whose_gpu_failed_asks_for_no_more_and_ends(house: House, failing_gpu: str) -> None:
    """Of its own accord, without an error; its job is queued again and held against nobody."""
    job_id = house.submit()
    with house.running("Worker.*", method="run", PYTHONPATH=failing_gpu) as container:
        assert container.wait(HANG_S) == 0
    job = house.jobs.read(job_id).record
    assert (job.status, job.attempt, job.crashes, job.failures) == (Status.QUEUED, 1, 0, 0)
    assert house.plane.stopped
    assert set(house.plane.inputs_ended) == {"GENERIC_STATUS_SUCCESS"}


def test_fault_9_a_container_whose_gpu_failed_ends_though_modal_does_not_hear_of_it(
    house: House, failing_gpu: str
) -> None:
    """Or it would go on taking jobs to a GPU that computes nothing."""
    house.submit()
    house.plane.faults["ContainerStop"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    with house.running("Worker.*", method="run", PYTHONPATH=failing_gpu) as container:
        container.wait(HANG_S)
    assert house.statuses() == {Status.QUEUED}


def test_fault_3_the_reconciler_sends_the_ticket_that_a_job_lost(house: House) -> None:
    """A function beside the worker class: it finds the class, and sends its input."""
    house.plane.faults["QueuePut"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = house.submit()
    house.plane.reset_faults()
    house.plane.enqueue_input("fu-reconciler")
    with house.running("reconciler"):
        until = time.monotonic() + HANG_S
        while not house.plane.inputs_ended and time.monotonic() < until:
            time.sleep(0.05)
    assert house.plane.inputs_ended == {"GENERIC_STATUS_SUCCESS": 1}
    assert house.plane.spawned["fu-Worker.*"] == 1
    assert house.queue.dequeue() == job_id
