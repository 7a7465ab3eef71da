"""Every command of the API's documents works as it stands there, one after the other, against a whole service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.support.processes import TRELLIS2, run_process
from tests.support.service_processes import SAMPLES, shell, whole_service
from tests.support.webhook_receivers import Receiver

DOCUMENTS = [Path("docs/api.md"), *sorted(Path("docs/how-to").glob("*.md"))]
# What stands in the document for what a reader has: an address, a job's id, a receiver.
ADDRESS, JOB, HOOKS = "http://127.0.0.1:8080", "job_01m87qa8keebs8qqn6j7rpd6vh", "https://hooks.example.com"
# Fails where an answer is an error, and shows a key, as elsewhere than on one's own machine.
CURL = 'curl() { command curl --fail-with-body --max-time 90 -H "X-API-Key: $TRELLIS2_API_KEY" "$@"; }\n'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    listening = Receiver()
    yield listening
    listening.close()


@pytest.mark.parametrize("document", DOCUMENTS, ids=[document.stem for document in DOCUMENTS])
def test_every_command_of_a_document_works(document: Path, tmp_path: Path, receiver: Receiver) -> None:
    """Submit, wait, fetch, follow, list, register, export; and the named receiver gets its webhook."""
    text = document.read_text()
    blocks = [*re.findall(r"```sh\n(.*?)```", text, re.DOTALL), *re.findall(r"`(curl [^`]+)`", text)]
    (tmp_path / "mug.png").write_bytes((SAMPLES / "mug.png").read_bytes())
    data = tmp_path / "data"
    origins = json.dumps([receiver.origin])
    environment = {**os.environ, "TRELLIS2_DATA_DIR": str(data), "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS": origins}
    made = subprocess.run([TRELLIS2, "keys", "create", "reader"], env=environment, capture_output=True, check=True)
    environment["TRELLIS2_API_KEY"] = made.stdout.decode().strip()
    with (
        whole_service(data, "gateway", "notifier", WEBHOOK_PRIVATE_ORIGINS=origins) as url,
        run_process([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
    ):
        submitted, ran = "", ""
        for block in blocks:
            script = f"{ran}{block}".replace(ADDRESS, url).replace(HOOKS, receiver.origin).replace(JOB, submitted)
            said = shell(CURL + script, shown=block, folder=tmp_path, environment=environment)
            if found := re.search(r"job_[0-9a-z]{26}", said):
                submitted = submitted or found[0]
            ran += "".join(f"{line}\n" for line in block.splitlines() if line.startswith("export "))
        if "-o mug.glb" in text:
            assert (tmp_path / "mug.glb").stat().st_size > 0
        if HOOKS in text:
            receiver.wait_for(lambda requests: any(json.loads(one.body)["type"] == "job.succeeded" for one in requests))
