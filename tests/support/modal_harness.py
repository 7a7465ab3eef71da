"""Modal under test: deployments, and containers in Modal's own runtime, started as Modal's worker starts them.

The runtime is private to Modal and changes with its releases; only this module depends on it.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2

from bench.fleet.control_plane.deployments import Manifest
from bench.fleet.control_plane.server import ControlPlane
from bench.support.processes import draw_test_image
from infra.embedded_store.store import SqliteStore
from infra.modal_app.queue import ModalQueue
from infra.settings.service import Settings
from shared.domain.job import Input, Job, Status
from shared.domain.parameters import resolve
from shared.errors import QueueUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import new_job
from tests.support.waiting import HANG_S


def deploy(plane: ControlPlane, **settings: str) -> Manifest:
    """Deploy with the command line under these settings; return what it asks Modal for."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRELLIS2_")} | settings
    command = [sys.executable, "-m", "modal", "deploy", "-m", "infra.app"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return plane.manifest


@contextmanager
def run_container(
    plane: ControlPlane,
    function: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    method: str = "",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container of a function of the last deployment; its inputs call `method`.

    `environment` is what Modal adds from secrets; `folder` is where the container reads its arguments.
    """
    plane.method = method
    arguments = folder / "arguments"
    arguments.write_bytes(_arguments(plane.manifest, function).SerializeToString())
    (definition, *_) = plane.manifest.functions[function]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MODAL_TOKEN", "TRELLIS2_"))}
    variables = {
        **inherited,
        **plane.manifest.environment(definition),
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": "ta-1",
        "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
        **environment,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "modal._container_entrypoint"], env=variables, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _arguments(manifest: Manifest, function: str) -> api_pb2.ContainerArguments:
    (definition, *_) = manifest.functions[function]
    ids = {name: f"fu-{name}" for name in manifest.functions}
    layout = api_pb2.AppLayout(
        function_ids=ids,
        class_ids={"Worker": "cs-Worker"},
        objects=[
            *(
                api_pb2.Object(object_id=ids[name], function_handle_metadata=handle)
                for name, handle in manifest.handles.items()
            ),
            api_pb2.Object(object_id="cs-Worker", class_handle_metadata=api_pb2.ClassHandleMetadata()),
            *(_described(dependency.object_id) for dependency in definition.object_dependencies),
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


def _described(object_id: str) -> api_pb2.Object:
    """Describe a secret, an image, a mount or a volume as Modal does."""
    if object_id.startswith("vo-"):
        return api_pb2.Object(object_id=object_id, volume_metadata=api_pb2.VolumeMetadata())
    return api_pb2.Object(object_id=object_id)


@dataclass
class ModalHarness:
    """A deployment, its queue, and its bucket in a folder."""

    plane: ControlPlane
    folder: Path
    queue: ModalQueue

    def __post_init__(self) -> None:
        secret = Settings(data_dir=self.folder).signing_secret()
        self.jobs = build_job_repository(SqliteStore(self.folder / "store", secret=secret))

    def submit(self, preset: str = "low_poly") -> str:
        """Submit a job, enqueue it unless Modal refuses, and return its id."""
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

    def run_container(
        self, function: str, method: str = "", **variables: str
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run a container of a function over this bucket."""
        secret = {
            **variables,
            "TRELLIS2_STORE": "embedded",
            "TRELLIS2_DATA_DIR": str(self.folder),
            "TRELLIS2_REQUEUE_AFTER_S": "0",
        }
        return run_container(self.plane, function, folder=self.folder, environment=secret, method=method)

    def statuses(self) -> set[Status]:
        """Read the statuses of the unfinished jobs."""
        return {self.jobs.read(marker.job_id).record.status for marker in self.jobs.pending_markers()}

    def wait_for(self, job_id: str, *statuses: Status) -> Job:
        """Wait for one of these statuses; return the job."""
        until = time.monotonic() + HANG_S
        while (job := self.jobs.read(job_id).record).status not in statuses:
            assert time.monotonic() < until, f"the job is {job.status}"
            time.sleep(0.05)
        return job
