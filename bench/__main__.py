"""python -m bench (`make bench`) runs every measurement that needs no GPU and prints the published numbers."""

import os
import platform
import runpy
import sys
from datetime import UTC, datetime
from importlib.metadata import version

MEASUREMENTS = (
    "bench.service.end_to_end",
    "bench.extraction.cpu",
    "bench.service.batches",
    "bench.service.batch_kills",
    "bench.extraction.formats",
    "bench.service.gateway",
    "bench.service.kills",
    "bench.service.lighthouse",
    "bench.fleet.modal_rpc",
    "bench.fleet.report",
    "bench.fleet.costs",
    "bench.service.event_streams",
    "bench.service.store",
    "bench.service.webhooks",
)
LIBRARIES = ("modal", "warp-lang", "xatlas", "numpy", "fastapi", "uvicorn")


def main() -> None:
    """Run each measurement in this process, under a heading."""
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores,",
        f"Python {platform.python_version()}",
    )
    print(", ".join(f"{library} {version(library)}" for library in LIBRARIES))
    sys.argv[1:] = []
    for module in MEASUREMENTS:
        print(f"\n== python -m {module}", flush=True)
        runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
