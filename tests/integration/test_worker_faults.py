"""Worker processes are killed, frozen and shut down; the job still reaches exactly one terminal status."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.support.processes import draw_test_image
from infra.embedded_store.store import SqliteStore
from infra.queues.local import PollingQueue
from infra.settings.service import Settings
from shared.domain.job import Input, Job, Status
from shared.domain.parameters import resolve
from shared.errors import StoreUnavailable
from shared.net.egress import Egress
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from tests.support.fakes import new_job
from tests.support.stub_engine import Block
from tests.support.waiting import HANG_S
from worker.maintenance.reconciler import Reconciler
from worker.runner.lease import HEARTBEAT_S
from worker.runner.pipeline import JobPipeline
from worker.runner.worker import Worker


class WorkerProcesses:
    """One store, seen by worker processes at the true time and by this test `late_s` seconds later."""

    def __init__(self, folder: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
        self.settings = Settings(data_dir=folder)
        self.late_s = 0.0
        self.store = SqliteStore(folder / "store", secret=self.settings.signing_secret(), clock=self.now)
        self.jobs = build_job_repository(self.store)
        self.spawn = spawn

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.late_s)

    def submit(self) -> str:
        body = draw_test_image(64)
        job = new_job(self.jobs.now(), parameters=resolve({"seed": 1}, "low_poly"))
        key = keys.job_input(job.id, "png")
        stored = Input(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        job = job.model_copy(update={"input": stored})
        self.jobs.reserve(job)
        self.store.put(key, body)
        self.jobs.create(job)
        return job.id

    def worker(
        self, module: str, *arguments: str, crash_at: str | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TRELLIS2_DATA_DIR": str(self.settings.data_dir), **environment}
        if crash_at:
            environment["TRELLIS2_CRASH_AT"] = crash_at
        return self.spawn([sys.executable, "-m", module, *arguments], env=environment)

    def wait_for(self, job_id: str, is_there: Callable[[Job], bool]) -> Job:
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            job = self.jobs.read(job_id).record
            if is_there(job):
                return job
            time.sleep(0.02)
        raise TimeoutError(f"job {job_id} is still {job.status}, stage {job.stage}")

    def finish(self) -> None:
        """Half a minute later: reconcile, and run everything that is left by a worker in this process."""
        self.late_s += 31
        queue = PollingQueue(self.jobs)
        Reconciler(self.jobs, queue).reconcile()
        pipeline = JobPipeline(self.store, Egress(), {"relief": Block()})
        worker = Worker(jobs=self.jobs, queue=queue, work=pipeline.run, name="second")
        while worker.run_once():
            pass

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process between two changes of the store: within one it would keep others from any change."""
        while True:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            with suppress(StoreUnavailable):
                self.store.put("probe", b"")
                return
            process.send_signal(signal.SIGCONT)

    def files_of(self, job_id: str) -> set[str]:
        folder = keys.job_folder(job_id)
        return {entry.key.removeprefix(folder) for entry in self.store.list(folder)}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[WorkerProcesses]:
    """Worker processes, killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def spawn(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
        return started[-1]

    yield WorkerProcesses(tmp_path, spawn)
    for process in started:
        process.kill()
        process.wait()


ARTIFACTS = {"model.glb", "poster.webp", "state.safetensors"}


@pytest.mark.parametrize("point", ["fetch:before", "sample:before", "sample:after", "extract:after", "store:before"])
def test_fault_4_a_worker_killed_at_its_work_is_replaced(processes: WorkerProcesses, point: str) -> None:
    """Its lease ends, attempt 2 runs, and no file of attempt 1 is left."""
    job_id = processes.submit()
    assert processes.worker("tests.support.stub_engine", crash_at=point).wait(HANG_S) == -signal.SIGKILL
    assert processes.jobs.read(job_id).record.status is Status.RUNNING
    processes.finish()
    job = processes.jobs.read(job_id).record
    assert (job.status, job.attempt, job.crashes) == (Status.SUCCEEDED, 2, 1)
    assert processes.files_of(job_id) == {"job.json", "input.png", *(f"2/{name}" for name in ARTIFACTS)}


def test_fault_5_a_worker_killed_between_upload_and_finish_leaves_no_trace(processes: WorkerProcesses) -> None:
    """Attempt 2 finishes; attempt 1's artifacts are deleted; the recorded checksums match the stored bytes."""
    job_id = processes.submit()
    assert processes.worker("tests.support.stub_engine", crash_at="finish:before").wait(HANG_S) == -signal.SIGKILL
    assert {f"1/{name}" for name in ARTIFACTS} < processes.files_of(job_id)
    processes.finish()
    job = processes.jobs.read(job_id).record
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 2)
    assert processes.files_of(job_id) == {"job.json", "input.png", *(f"2/{name}" for name in ARTIFACTS)}
    for artifact in job.artifacts.values():
        assert hashlib.sha256(processes.store.get(artifact.key).body).hexdigest() == artifact.sha256


def test_a_worker_killed_right_after_its_last_write_changes_nothing_any_more(processes: WorkerProcesses) -> None:
    """The job has ended; reconciling finds nothing to run."""
    job_id = processes.submit()
    assert processes.worker("tests.support.stub_engine", crash_at="finish:after").wait(HANG_S) == -signal.SIGKILL
    finished = processes.jobs.read(job_id)
    processes.finish()
    assert finished.record.status is Status.SUCCEEDED
    assert processes.jobs.read(job_id).etag == finished.etag


def test_fault_7_a_worker_frozen_past_its_lease_finds_itself_replaced(processes: WorkerProcesses) -> None:
    """Thawed, it neither finishes nor renews the job, and deletes its files."""
    job_id = processes.submit()
    zombie = processes.worker("bench.support.stub_worker", "3")
    processes.wait_for(job_id, lambda job: job.status is Status.RUNNING and job.stage is not None)
    processes.freeze(zombie)
    processes.finish()
    finished = processes.jobs.read(job_id)
    assert (finished.record.status, finished.record.attempt) == (Status.SUCCEEDED, 2)
    zombie.send_signal(signal.SIGCONT)
    until = time.monotonic() + HANG_S
    while any(name.startswith("1/") for name in processes.files_of(job_id)) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes.jobs.read(job_id).etag == finished.etag
    assert processes.files_of(job_id) == {"job.json", "input.png", *(f"2/{name}" for name in ARTIFACTS)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fault_8_a_worker_that_is_signaled_releases_its_job(processes: WorkerProcesses, number: signal.Signals) -> None:
    """Long before its work would end; the job counts no crash, and the next worker finishes it."""
    job_id = processes.submit()
    worker = processes.worker("bench.support.stub_worker", "36000")
    processes.wait_for(job_id, lambda job: job.status is Status.RUNNING)
    worker.send_signal(number)
    processes.wait_for(job_id, lambda job: job.status is Status.QUEUED)
    assert worker.wait(HANG_S) == 0
    processes.finish()
    job = processes.jobs.read(job_id).record
    assert (job.status, job.attempt, job.crashes) == (Status.SUCCEEDED, 2, 0)


def test_worker_that_runs_two_jobs_at_once_releases_both(processes: WorkerProcesses) -> None:
    """The next worker finishes them."""
    job_list = [processes.submit(), processes.submit()]
    worker = processes.worker("bench.support.stub_worker", "36000", TRELLIS2_PARALLEL_JOBS="2")
    for job_id in job_list:
        processes.wait_for(job_id, lambda job: job.status is Status.RUNNING)
    worker.send_signal(signal.SIGTERM)
    for job_id in job_list:
        processes.wait_for(job_id, lambda job: job.status is Status.QUEUED)
    assert worker.wait(HANG_S) == 0
    processes.finish()
    assert {processes.jobs.read(job_id).record.status for job_id in job_list} == {Status.SUCCEEDED}


def test_fault_10_a_job_that_kills_every_worker_is_poison_after_three(processes: WorkerProcesses) -> None:
    """Three processes die of it; it is not given to a fourth."""
    job_id = processes.submit()
    for _ in range(3):
        assert processes.worker("tests.support.stub_engine", crash_at="sample:after").wait(HANG_S) == -signal.SIGKILL
        processes.late_s += 31
        Reconciler(processes.jobs, PollingQueue(processes.jobs)).reconcile()
    job = processes.jobs.read(job_id).record
    assert job.error is not None
    assert (job.status, job.error.code, job.attempt) == (Status.FAILED, "poison", 3)


def test_fault_23_a_canceled_job_frees_its_worker(processes: WorkerProcesses) -> None:
    """The record is canceled at once, and the worker runs the next job long before the work would have ended.

    The documented five seconds are two heartbeats; only that sum is compared, never the time of this machine.
    """
    assert 2 * HEARTBEAT_S <= 5.0
    job_id = processes.submit()
    processes.worker("bench.support.stub_worker", "36000")
    processes.wait_for(job_id, lambda job: job.status is Status.RUNNING)
    assert processes.jobs.cancel(job_id).record.status is Status.CANCELED
    following = processes.submit()
    processes.wait_for(following, lambda job: job.status is Status.RUNNING)
