"""A real worker process whose job function only stores three small artifacts."""

import hashlib
import sys
import time

from infra.local import Role, Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.domain.job import Artifact, Job, Stage
from shared.log import log_to_stderr
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import Progress
from worker.runner.job_function import CONTENT_TYPES, JobFunction, JobResult

SLICE_S = 0.1  # how often it reports


def build_stub_work(store: ObjectStore, seconds: float) -> JobFunction:
    """Build a job function of `seconds` that reports every stage; its artifacts name their job and attempt."""

    def work(job: Job, progress: Progress) -> JobResult:
        slices = max(1, round(seconds / len(Stage) / SLICE_S))
        for stage in Stage:
            for number in range(slices):
                progress(stage, number / slices)
                time.sleep(seconds / len(Stage) / slices)
        artifacts = {}
        for filename, content_type in CONTENT_TYPES.items():
            body = f"{job.id} {job.attempt} {filename}".encode()
            key = keys.artifact(job.id, job.attempt, filename)
            store.put(key, body, content_type=content_type)
            artifacts[filename.split(".")[0]] = Artifact(
                key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest(), content_type=content_type
            )
        return JobResult(artifacts, {"shape": seconds})

    return work


if __name__ == "__main__":
    settings = Settings()
    log_to_stderr(settings.log_level)
    Service(settings, Role.WORKER, work=build_stub_work(open_store(settings), float(sys.argv[1]))).run_until_signaled()
