"""A worker process that runs one job and kills itself at a named moment between the end of the job and its webhook."""

import os
import signal
import sys
from typing import Any

from bench.support.stub_worker import build_stub_work
from infra.embedded_store.store import SqliteStore
from infra.queues.local import PollingQueue
from infra.settings.service import Settings
from shared.repositories.job_listeners import build_job_repository
from shared.storage import keys
from worker.runner.worker import Worker


class CrashingStore(SqliteStore):
    """A store whose process is killed at one call: `outbox:before`, `outbox:after` or `marker:before`."""

    dies_at = ""

    def put(self, key: str, *body: Any, **conditions: Any) -> str:
        """Put, and die before or after it."""
        self._crash_at("outbox:before", key, keys.OUTBOX)
        etag = super().put(key, *body, **conditions)
        self._crash_at("outbox:after", key, keys.OUTBOX)
        return etag

    def delete(self, key: str) -> None:
        """Die, or delete."""
        self._crash_at("marker:before", key, keys.PENDING)
        super().delete(key)

    def _crash_at(self, moment: str, key: str, prefix: str) -> None:
        if self.dies_at == moment and key.startswith(prefix):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = Settings()
    store = CrashingStore(settings.data_dir / "store", secret=settings.signing_secret())
    store.dies_at = sys.argv[1]
    jobs = build_job_repository(store)
    Worker(jobs=jobs, queue=PollingQueue(jobs), work=build_stub_work(store, 0.1), name="crashing").run_once()
