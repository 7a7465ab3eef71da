"""`trellis2 demo`: the whole service, one picture through it, and out again."""

import argparse
import subprocess
import sys
from pathlib import Path

from infra.local import Service
from infra.settings.service import Settings
from shared.log import log_to_stderr


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the service on a free loopback port and the command line client against it; the client's exit code."""
    log_to_stderr("WARNING")
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    service = Service(Settings(host="127.0.0.1", port=0, data_dir=Path("var/demo")))
    service.start()
    print(f"The service is up at {service.base_url}: gateway, queue, store, worker and reconciler in one process.")
    name = arguments.image.stem
    client = [str(Path(sys.executable).with_name("trellis2")), "generate", str(arguments.image)]
    options = ["--url", service.base_url, "--preset", "web", "--pipeline-type", "512", "--seed", "1"]
    files = ["-o", str(out / f"{name}.glb"), "--poster", str(out / f"{name}.webp")]
    try:
        return subprocess.run([*client, *options, *files], check=False).returncode  # noqa: S603 - our own client
    finally:
        service.stop()
