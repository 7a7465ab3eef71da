"""Schedule batches in a separate process that reads every image from a server on loopback.

`python -m bench.support.batch_scheduler PORT FOLDER` schedules the batches in `$TRELLIS2_DATA_DIR` until none is left
to plan, then prints the seconds and the peak memory in MB. FOLDER holds `ca.pem`, the authority of the server at PORT.
"""

import resource
import ssl
import sys
import time

from infra.queues.local import PollingQueue
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.net.egress import Egress, tcp_dial
from shared.repositories.batches import BatchRepository
from shared.repositories.job_listeners import build_job_repository
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import Planner
from worker.batches.scheduler import BatchScheduler

if __name__ == "__main__":
    port, folder = int(sys.argv[1]), sys.argv[2]
    egress = Egress(
        resolve=lambda _host, _timeout_s: ("93.184.215.14",),
        dial=lambda _address, _port, timeout_s: tcp_dial("127.0.0.1", port, timeout_s),
        ssl_context=ssl.create_default_context(cafile=f"{folder}/ca.pem"),
    )
    jobs = build_job_repository(open_store(Settings()))
    batches = BatchRepository(jobs.store)
    scheduler = BatchScheduler(
        Planner(batches, jobs, egress, ("relief",)), BatchDispatcher(batches, jobs, PollingQueue(jobs))
    )
    began = time.perf_counter()
    scheduler.run_for(600.0)
    print(round(time.perf_counter() - began, 1), round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000, 1))
