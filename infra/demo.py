"""`trellis2 demo`: the whole service, one picture through it, and out again."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.local import Service
from infra.settings import Settings
from shared.log import log_to_stderr

SAMPLE = Path("docs/samples/mug.png")


def add_demo(subparsers: Any) -> None:
    """Add `trellis2 demo`."""
    parser = subparsers.add_parser("demo", help="start the service, make one asset, stop")
    parser.add_argument("image", nargs="?", type=Path, default=SAMPLE, help=f"a picture ({SAMPLE} if absent)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the GLB and its poster")
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the service on a free loopback port and the command line client against it; the client's exit code."""
    log_to_stderr("WARNING")
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    service = Service(Settings(host="127.0.0.1", port=0, data_dir=Path("var/demo")))
    service.start()
    print(f"The service is up at {service.base_url}: gateway, queue, ledger, worker and sweeper in one process.")
    name = arguments.image.stem
    client = [str(Path(sys.executable).with_name("trellis2")), "generate", str(arguments.image)]
    options = ["--url", service.base_url, "--preset", "web", "--pipeline-type", "512", "--seed", "1"]
    files = ["-o", str(out / f"{name}.glb"), "--poster", str(out / f"{name}.webp")]
    try:
        return subprocess.run([*client, *options, *files], check=False).returncode  # noqa: S603 - our own client
    finally:
        service.stop()
