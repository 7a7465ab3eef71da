"""Every command of docs/batches.md works as it stands there, one after the other, against a whole service."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.support.processes import TRELLIS2, run_process
from tests.support.service_processes import SAMPLES, shell, whole_service

COMMANDS = re.findall(r"```sh\n(.*?)```", Path("docs/batches.md").read_text(), re.DOTALL)
# What stands in the document for what a reader has: an address, a batch's id.
ADDRESS, BATCH = "http://127.0.0.1:8080", "batch_01m87qa8keebs8qqn6j7rpd6vh"
# Shows a key, as elsewhere than on one's own machine, and fails where an answer is an error.
CURL = 'curl() { command curl --fail-with-body --max-time 90 -H "X-API-Key: $TRELLIS2_API_KEY" "$@"; }\n'


def test_every_command_of_the_batch_page_works(tmp_path: Path) -> None:
    """Run, list, look, fetch; submit, confirm, watch, download."""
    (tmp_path / "photos").mkdir()
    for name in ("mug.png", "mug-8.png"):
        shutil.copy(SAMPLES / "mug.png", tmp_path / "photos" / name)
    data = tmp_path / "data"
    environment = {
        **os.environ,
        "TRELLIS2_DATA_DIR": str(data),
        "PATH": f"{Path(TRELLIS2).parent}:{os.environ['PATH']}",
    }
    made = subprocess.run([TRELLIS2, "keys", "create", "reader"], env=environment, capture_output=True, check=True)
    environment["TRELLIS2_API_KEY"] = made.stdout.decode().strip()
    with (
        whole_service(data, "gateway", "scheduler") as url,
        run_process([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
    ):
        environment["TRELLIS2_URL"] = url
        batch, ran = "", ""
        for block in COMMANDS:
            script = block.replace(ADDRESS, url).replace(BATCH, batch)
            said = shell(CURL + ran + script, shown=block, folder=tmp_path, environment=environment)
            if found := re.search(r"batch_[0-9a-z]{26}", said):
                batch = batch if "Content-Type" in block else found[0]
            exports = (line for line in block.splitlines() if "export" in line)
            ran += "".join(f"{line}\n" for line in exports).replace(ADDRESS, url).replace(BATCH, batch)
    assert (tmp_path / "assets" / "MUG-7.glb").stat().st_size > 0
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "assets.zip").read_bytes().startswith(b"PK")
