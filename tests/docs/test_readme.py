"""The README is true: its commands run one after the other, its targets exist, its figures are the documents'."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.support.processes import TRELLIS2, run_process
from tests.support.service_processes import SAMPLES, shell, whole_service
from tests.support.waiting import HANG_S
from tests.support.webhook_receivers import Receiver

README = Path("README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
ROLES = [line.rpartition(" ")[2] for line in COMMANDS if line.startswith("trellis2 serve --role")]
# What stands in the document for what a reader has: an address, a job's id, a receiver.
ADDRESS, JOB, HOOKS = "http://127.0.0.1:8080", "job_01m87qa8keebs8qqn6j7rpd6vh", "https://hooks.example.com"
CURL = 'curl() { command curl --fail-with-body --max-time 90 "$@"; }\n'


def test_the_commands_work_one_after_the_other(tmp_path: Path) -> None:
    """Submit, wait, fetch; a receiver gets its webhook; a catalog comes back by SKU. All roles run as named."""
    (tmp_path / "photos").mkdir()
    for name in ("mug.png", "photos/mug.png"):
        shutil.copy(SAMPLES / "mug.png", tmp_path / name)
    (tmp_path / "catalog.csv").write_text("sku,image\nMUG-7,mug.png\n")
    data, receiver = tmp_path / "data", Receiver()
    origins = json.dumps([receiver.origin])
    environment = {
        **os.environ,
        "TRELLIS2_DATA_DIR": str(data),
        "PATH": f"{Path(TRELLIS2).parent}:{os.environ['PATH']}",
    }
    with (
        whole_service(data, *(role for role in ROLES if role != "worker"), WEBHOOK_PRIVATE_ORIGINS=origins) as url,
        run_process([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
    ):
        environment["TRELLIS2_URL"] = url
        submitted = ""
        for command in COMMANDS:
            if not command.startswith(("curl", "trellis2 batch")):
                continue
            script = command.replace(ADDRESS, url).replace(HOOKS, receiver.origin).replace(JOB, submitted)
            said = shell(CURL + script, shown=command, folder=tmp_path, environment=environment)
            if found := re.search(r"job_[0-9a-z]{26}", said):
                submitted = submitted or found[0]
        assert (tmp_path / "mug.glb").stat().st_size > 0
        assert (tmp_path / "assets/MUG-7.glb").stat().st_size > 0

        (tmp_path / "mug.glb").unlink()
        (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        subprocess.run([sys.executable, "-c", snippet.replace(ADDRESS, url)], cwd=tmp_path, check=True, timeout=HANG_S)
        assert (tmp_path / "mug.glb").stat().st_size > 0
        receiver.wait_for(lambda requests: any(json.loads(one.body)["type"] == "job.succeeded" for one in requests))
    receiver.close()


def test_every_target_of_make_exists() -> None:
    """Wherever the text names one."""
    targets = set(re.findall(r"^([a-z]+):.*##", Path("Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)(?=`|  )", README))
    assert named == {"demo", "serve", "check", "test", "bench"}
    assert named <= targets


def figures(document: str, pattern: str) -> list[str]:
    """The figures that a pattern finds in a document."""
    found = re.search(pattern, Path(document).read_text())
    assert found, pattern
    return list(found.groups())


def test_its_figures_are_those_of_the_documents() -> None:
    """Costs of an asset, seconds of sampling, extraction and the whole way."""
    costs = re.findall(r"^\| (?:H100|A100-80GB) \|.*$", README, re.MULTILINE)
    assert len(costs) == 4
    assert [row for row in costs if row not in Path("docs/operations.md").read_text()] == []
    performance = "docs/performance.md"
    rows = r"\n\| 1,000,000 / 4096 px, goal 6 s \| ours \| ([\d.]+) \|.*\n\| \| upstream \| ([\d.]+) \|"
    ours, upstream = figures(performance, rows)
    assert f"a million triangles, H200 | {ours} s | {upstream} s in the same run |" in README
    for preset in ("web", "game"):
        total = figures(performance, rf"\| `{preset}` \([^)]*\) \| ([\d.]+) \|")[0]
        assert re.search(rf"`{preset}`[^|]{{0,40}}{re.escape(total)} s", README)
    upstream, ours = figures(performance, r"\| 1024_cascade: all of it[^|]*\| \| ([\d.]+) \| ([\d.]+) \|")
    assert f"{float(ours):.1f} s, random weights | {float(upstream):.1f} s in the same run" in README
