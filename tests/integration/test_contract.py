"""The service keeps to its OpenAPI document under hundreds of generated requests."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.support.processes import run_process
from tests.support.gateway_harness import IMAGE
from tests.support.service_processes import whole_service
from tests.support.waiting import HANG_S

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
ORIGIN = "http://127.0.0.1:9"  # a receiver that is allowed and never there


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway process without a worker."""
    folder = tmp_path_factory.mktemp("contract")
    with whole_service(folder, "gateway", WEBHOOK_PRIVATE_ORIGINS=f'["{ORIGIN}"]') as url:
        yield url


def ids(url: str) -> dict[str, str]:
    """Things that are there, by the name of the parameter that names them; the job has ended: nothing waits for it."""
    job = httpx.post(f"{url}/v1/jobs", files={"image": ("a.png", IMAGE)}).json()["id"]
    httpx.post(f"{url}/v1/jobs/{job}/cancel").raise_for_status()
    endpoint = httpx.post(f"{url}/v1/webhook-endpoints", json={"url": f"{ORIGIN}/hook"}).json()["id"]
    return {"job_id": job, "endpoint_id": endpoint, "name": "model"}


def schemathesis(
    url: str, folder: Path, chosen: list[str], asked: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One run against a service, always the same one; `chosen` are options of the program, `asked` those of the run."""
    always = ["--no-color", "--seed", "1", "--warnings", "off", "--continue-on-failure"]
    excluded = ["--exclude-checks", "positive_data_acceptance"]
    return subprocess.run(
        [SCHEMATHESIS, *chosen, "run", f"{url}/openapi.json", *always, *asked, *excluded],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.mark.parametrize("known", [False, True], ids=["invented ids", "ids that are there"])
def test_every_answer_is_one_that_the_document_declares(service: str, tmp_path: Path, known: bool) -> None:
    """Status codes, content types, headers and bodies; nothing invalid is accepted; no 500.

    A request that fits the schema may still be refused: no schema says whether bytes are an image or a URL is public.
    """
    config = tmp_path / "schemathesis.toml"
    named = [f'"path.{name}" = "{value}"' for name, value in ids(service).items()] if known else []
    config.write_text("\n".join(["[parameters]", *named]))
    chosen = ["--config-file", str(config)]
    asked = ["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--max-time", "20"]
    spared = ["--exclude-method", "DELETE", "--exclude-path-regex", "retry$"] if known else []
    checked = schemathesis(service, tmp_path, chosen, [*asked, *spared])
    assert checked.returncode == 0, checked.stdout[-6_000:]


def test_every_story_that_the_documents_links_tell_holds(tmp_path: Path) -> None:
    """Ids of each answer are used in the next request, step by step, while a worker runs the jobs."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "SCHEMATHESIS_RECEIVER": f"{ORIGIN}/hook",
        "TRELLIS2_DATA_DIR": str(tmp_path / "data"),
    }
    with (
        whole_service(tmp_path / "data", "gateway", WEBHOOK_PRIVATE_ORIGINS=f'["{ORIGIN}"]') as url,
        run_process([sys.executable, "-m", "bench.support.stub_worker", "0.1"], environment),
    ):
        asked = ["--phases", "stateful", "--max-examples", "10", "--max-time", "30"]
        checked = schemathesis(url, tmp_path, [], asked, environment)
    assert checked.returncode == 0, checked.stdout[-6_000:]
    followed = re.search(r"API Links: +(\d+) covered", checked.stdout)
    assert followed, checked.stdout
    assert int(followed[1]) >= 20
