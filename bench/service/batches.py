"""python -m bench.service.batches [--ceph] measures how a large catalog is accepted, planned and counted.

There is no peer. Each number is printed with its goal.
"""

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import trustme

from bench.support.processes import TRELLIS2, draw_test_image, free_port, run_process, wait_until_ready
from infra.embedded_store.store import SqliteStore
from shared.domain.batch import Batch, BatchDefaults, BatchStatus, ManifestFile, Tally
from shared.repositories.batch_row_status import RowStatusMarkers
from shared.repositories.batches import BatchRepository
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.batches.dispatcher import MAX_SPREAD_ROWS

HOST = "https://cdn.example.com"
COUNTED_ROWS = 50_000
AGGREGATED_MARKERS = 10_000  # of rows that are already aggregated: a listing must skip them
READS = 15


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--ceph", action="store_true", help="count rows over Ceph's S3 gateway, too")
    arguments = parser.parse_args()
    measure_planning(arguments.rows)
    with tempfile.TemporaryDirectory(prefix="batches-") as folder:
        measure_counting("the embedded store", SqliteStore(Path(folder), secret=b"bench"))
    if arguments.ceph:
        with open_ceph_store() as store:
            measure_counting("Ceph, HTTP", store)


def measure_planning(rows: int) -> None:
    """Submit a catalog to a gateway and plan it in a separate process."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batches-")))
        images_port, port = free_port(), free_port()
        _write_image_files(folder)
        image_server = [sys.executable, "-m", "bench.support.image_server", str(images_port), str(folder)]
        stack.enter_context(run_process(image_server, os.environ))
        environment = {**os.environ, "TRELLIS2_DATA_DIR": f"{folder}/data", "TRELLIS2_PORT": str(port)}
        stack.enter_context(run_process([TRELLIS2, "serve", "--role", "gateway"], environment))
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        began = time.perf_counter()
        batch = httpx.post(f"{url}/v1/batches", files={"manifest": build_catalog(rows)}, timeout=60).json()
        accepted_s = time.perf_counter() - began
        scheduler = [sys.executable, "-m", "bench.support.batch_scheduler", str(images_port), str(folder)]
        printed = subprocess.run(scheduler, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        planned_s, memory_mb = map(float, printed.stdout.split())
        planned_batch = httpx.get(f"{url}/v1/batches/{batch['id']}", timeout=60).json()
        assert planned_batch["status"] == "awaiting_confirmation"
        assert planned_batch["plan"]["rows"] == rows
        print(
            f"{rows:,} rows, each image's header read over TLS; {planned_batch['plan']['invalid']} of them are missing"
        )
        print(f"  accepted in                      {accepted_s:8.2f} s")
        print(f"  planned in                       {planned_s:8.1f} s     goal: 60 s in all, for 10,000")
        print(f"  peak memory of the planner       {memory_mb:8.1f} MB    goal: 200 MB")


def build_catalog(rows: int) -> bytes:
    """Build a product export with `rows` rows; every hundredth image is missing."""
    lines = [
        f'P-{row},"A fine ""mug"", number {row}",{HOST}/{"gone/" if row % 100 == 99 else ""}{row}.jpg,{row % 7 + 5} cm'
        for row in range(rows)
    ]
    return "\r\n".join(["Variant SKU,Title,Image Src,Product height", *lines]).encode()


def measure_counting(name: str, store: ObjectStore) -> None:
    """Measure reading the counts of a batch with the maximum of rows that are unfinished or not yet aggregated."""
    batch = _create_running_batch(store)
    markers, batches = RowStatusMarkers(store), BatchRepository(store)

    def read() -> None:
        current = batches.find(batch.id)
        assert current
        counts = markers.counts(current)
        assert counts.total == COUNTED_ROWS
        assert counts.running == MAX_SPREAD_ROWS // 2

    print(f"the counts of {COUNTED_ROWS:,} rows over {name}, {MAX_SPREAD_ROWS:,} of them not aggregated")
    print(f"  median of {READS} reads               {statistics.median(_time_reads(read)):8.0f} ms    goal: 300 ms")


def _time_reads(read: Callable[[], None]) -> Iterator[float]:
    for _ in range(READS):
        began = time.perf_counter()
        read()
        yield (time.perf_counter() - began) * 1e3


def _create_running_batch(store: ObjectStore) -> Batch:
    """Create a batch near its end, with the status markers of its window and of some earlier rows."""
    aggregated = COUNTED_ROWS - MAX_SPREAD_ROWS
    batch = Batch(
        id=keys.new_id("batch", store.now()),
        caller="shop",
        secret=secrets.token_hex(16),
        status=BatchStatus.RUNNING,
        file=ManifestFile(format="csv"),
        defaults=BatchDefaults(engine="relief"),
        created_at=datetime.now(UTC),
        planned=COUNTED_ROWS,
        claimed=COUNTED_ROWS,
        claimed_runs=COUNTED_ROWS,
        dispatched=COUNTED_ROWS,
        aggregated=aggregated,
        tally=Tally(succeeded=aggregated),
    )
    BatchRepository(store).create(batch)

    def put(row: int) -> None:
        with store.group_commit():
            store.put(keys.row_status(batch.id, row, 0, "running.1"), b"")
            if row < aggregated or row % 2:
                store.put(keys.row_status(batch.id, row, 0, "succeeded.1000.700"), b"")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(aggregated - AGGREGATED_MARKERS, COUNTED_ROWS)))
    return batch


@contextmanager
def open_ceph_store() -> Iterator[ObjectStore]:
    """Open a bucket of Ceph's S3 gateway on loopback; Ceph must be installed."""
    from bench.support.ceph import make_bucket, run_ceph
    from infra.s3.store import S3Store

    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, run_ceph(Path(folder)) as ceph:
        make_bucket(ceph, "batches")
        store = S3Store(ceph.options("batches", tls=False))
        store.probe()
        yield store


def _write_image_files(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("cdn.example.com").private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
    (folder / "image.png").write_bytes(draw_test_image())


if __name__ == "__main__":
    main()
