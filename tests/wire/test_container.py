"""The worker class in Modal's own container runtime: it enters, runs tickets, and hands its jobs back when it must go.

The runtime is private to Modal and changes with its releases; only this module leans on it.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpclib import Status as GrpcStatus
from modal_proto import api_pb2

from bench.servers import a_picture
from infra.files import FileStore
from infra.modal_queue import ModalQueue
from infra.settings import Settings
from shared import keys
from shared.contract import resolve
from shared.errors import QueueUnavailable
from shared.job import Input, Job, Status
from shared.ledger import Ledger
from tests.fakes import a_job
from tests.wire.control_plane.deployments import Manifest
from tests.wire.control_plane.plane import ControlPlane
from tests.wire.control_plane.server import Faults
from tests.wire.doorbells import a_modal_queue, a_name
from tests.wire.test_deployment import deployed
from tests.wire.test_roles import COMPILED

PATIENCE_S = 180.0


@dataclass
class House:
    """A bucket in a folder, the doorbell, and what was deployed."""

    plane: ControlPlane
    folder: Path
    queue: ModalQueue
    manifest: Manifest

    def __post_init__(self) -> None:
        secret = Settings(data_dir=self.folder).signing_secret()
        self.ledger = Ledger(FileStore(self.folder / "store", secret=secret))

    def submit(self, preset: str = "low_poly") -> str:
        """One job, rung for as far as that goes; its id."""
        body = a_picture(256)
        job = a_job(self.ledger.now(), parameters=resolve({"seed": 1, "pipeline_type": "512"}, preset))
        key = keys.job_input(job.id, "png")
        stored = Input(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        self.ledger.reserve(job)
        self.ledger.store.put(key, body)
        self.ledger.create(job.model_copy(update={"input": stored}))
        with suppress(QueueUnavailable):
            self.queue.ring([job.id], job.lane)
        return job.id

    @contextmanager
    def running(self, function: str, method: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A container of one function, as Modal's worker would start it; its inputs call `method`."""
        self.plane.method = method
        command = [sys.executable, "-m", "modal._container_entrypoint"]
        # Whoever runs the tests in the background makes them, and all that they start, deaf to SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command, env=self._environment(function), stderr=subprocess.DEVNULL)
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def _environment(self, function: str) -> dict[str, str]:
        arguments = self.folder / "arguments"
        arguments.write_bytes(self._arguments(function).SerializeToString())
        (definition,) = self.manifest.functions[function]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_TOKEN")}
        return {
            **inherited,
            **self.manifest.environment(definition),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": "ta-1",
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "TRELLIS2_STORE": "files",
            "TRELLIS2_DATA_DIR": str(self.folder),
            "TRELLIS2_RING_AFTER_S": "0",
        }

    def _arguments(self, function: str) -> api_pb2.ContainerArguments:
        (definition,) = self.manifest.functions[function]
        ids = {name: f"fu-{name}" for name in self.manifest.functions}
        layout = api_pb2.AppLayout(
            function_ids=ids,
            class_ids={"Worker": "cs-Worker"},
            objects=[
                *(
                    api_pb2.Object(object_id=ids[name], function_handle_metadata=handle)
                    for name, handle in self.manifest.handles.items()
                ),
                api_pb2.Object(object_id="cs-Worker", class_handle_metadata=api_pb2.ClassHandleMetadata()),
                *(as_it_is_told(one.object_id) for one in definition.object_dependencies),
            ],
        )
        return api_pb2.ContainerArguments(
            task_id="ta-1",
            function_id=ids[function],
            app_id="ap-1",
            function_def=definition,
            app_layout=layout,
            environment_name="main",
        )

    def wait_for(self, job_id: str, *wanted: Status, within_s: float = PATIENCE_S) -> Job:
        """The job, once it stands there."""
        until = time.monotonic() + within_s
        while (job := self.ledger.read(job_id).job).status not in wanted:
            assert time.monotonic() < until, f"the job is {job.status}"
            time.sleep(0.05)
        return job


def as_it_is_told(object_id: str) -> api_pb2.Object:
    """What a container is told of a secret, an image, a mount or a volume."""
    if object_id.startswith("vo-"):
        return api_pb2.Object(object_id=object_id, volume_metadata=api_pb2.VolumeMetadata())
    return api_pb2.Object(object_id=object_id)


@pytest.fixture
def house(control_plane: ControlPlane, tmp_path: Path) -> House:
    """A deployment without a GPU, and a bucket for it."""
    control_plane.inputs_ended.clear()
    name = a_name()
    manifest = deployed(control_plane, TRELLIS2_GPU="", TRELLIS2_APP_NAME=name)
    COMPILED.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kernels").symlink_to(COMPILED)
    return House(control_plane, tmp_path, a_modal_queue(name), manifest)


def test_a_container_runs_its_ticket_and_sends_others_for_what_waits(house: House) -> None:
    """Three jobs, of which two lost their tickets: all succeed, and no input counts as failed."""
    jobs = [house.submit()]
    house.plane.faults["FunctionMap"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    jobs += [house.submit() for _ in range(2)]
    house.plane.heal()
    with house.running("Worker.*", method="run"):
        ends = [house.wait_for(job_id, Status.SUCCEEDED, Status.FAILED) for job_id in jobs]
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


def test_fault_3_the_sweeper_sends_the_ticket_that_a_job_lost(house: House) -> None:
    """A function beside the worker class: it finds the class, and sends its input."""
    house.plane.faults["QueuePut"] = Faults(fail_before=1.0, status=GrpcStatus.PERMISSION_DENIED)
    job_id = house.submit()
    house.plane.heal()
    house.plane.give_input("fu-sweeper")
    with house.running("sweeper"):
        until = time.monotonic() + PATIENCE_S
        while not house.plane.inputs_ended and time.monotonic() < until:
            time.sleep(0.05)
    assert house.plane.inputs_ended == {"GENERIC_STATUS_SUCCESS": 1}
    assert house.plane.spawned["fu-Worker.*"] == 1
    assert house.queue.take() == job_id
