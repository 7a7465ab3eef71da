"""docs/from-trellis2-modal.md is correct: its snippets run, and its tables are those of the service."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from trellis2_modal import Client
from trellis2_modal.cli.options import PRESETS as PRESET_NAMES

from api.limits.api_keys import Scope, create_key
from bench.support.processes import free_port, run_process, wait_until_ready
from infra.local import Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.domain.parameters import PRESETS, Parameters
from tests.support.service_processes import SAMPLES
from tests.support.waiting import HANG_S
from tests.validators.gltf.khronos import validate
from worker.engines.relief import engine

PAGE = (Path(__file__).parents[2] / "docs/from-trellis2-modal.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECRETS, WEB_UI = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
URL = "https://yourname--trellis2-gateway.modal.run"
COARSE = 128  # cells a side: the same work on a grid that is fast on two cores


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start the whole service, which requires a key, and a home folder with that key; URL and folder."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        for pipeline_type in engine.SIDES:
            patched.setitem(engine.SIDES, pipeline_type, COARSE)
        settings = Settings(host="127.0.0.1", port=0, data_dir=home / "var")
        _, key = create_key(open_store(settings), caller="reader", name="test", scopes=frozenset(Scope))
        patched.setenv("HOME", str(home))
        for name in [name for name in os.environ if name.startswith("TRELLIS2_")]:
            patched.delenv(name)
        subprocess.run(["sh", "-ec", SECRETS.replace("t2_xxxxx", key)], check=True)
        running = Service(settings)
        running.start()
        yield running.base_url, home
        running.stop()


def calls(name: str) -> list[dict[str, Any]]:
    """List the literal arguments of each call of a method in the snippets, in order."""
    nodes = [node for node in ast.walk(ast.parse("\n".join(SNIPPETS))) if isinstance(node, ast.Call)]
    named = sorted((call for call in nodes if ast.unparse(call.func) == f"client.{name}"), key=lambda call: call.lineno)
    return [
        {word.arg: word.value.value for word in call.keywords if word.arg and isinstance(word.value, ast.Constant)}
        for call in named
    ]


def test_snippets_run_in_order_with_another_url(service: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials from the file; every GLB is valid and has the requested triangles and texture."""
    url, home = service
    (home / "input.png").write_bytes((SAMPLES / "mug.png").read_bytes())
    monkeypatch.chdir(home)
    variables: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(compile(snippet.replace(URL, url), "docs/from-trellis2-modal.md", "exec"), variables)  # noqa: S102
    assert isinstance(variables["result"]["state"], str)
    assert variables["result"]["seed"] == 42
    with Client.from_environment(base_url=url) as client:
        jobs = [handle.job for handle in client.list()][::-1]
    for arguments, job in zip(calls("generate"), [job for job in jobs if job.preset == "low_poly"], strict=True):
        assert {name: job.raw["parameters"][name] for name in arguments if name != "image_path"} == {
            name: value for name, value in arguments.items() if name != "image_path"
        }
    exports = [job for job in jobs if job.preset == "max_quality"]
    for arguments, job in zip(calls("extract_glb"), exports, strict=True):
        model = job.artifacts["model"]
        assert (model.triangles or 0) <= arguments.get("decimation_target", 1_000_000)
        assert model.texture_px == arguments.get("texture_size", 4096)
        assert (home / arguments["output_path"]).stat().st_size == model.bytes
    for arguments in calls("extract_glb"):
        report = validate((home / arguments["output_path"]).read_bytes(), home)
        assert (report["numErrors"], report["numWarnings"]) == (0, 0)


def test_the_page_works_through_the_local_proxy(service: tuple[str, Path]) -> None:
    """Requests have the file's key, and URLs in responses lead back to the proxy."""
    url, home = service
    port = free_port()
    command = WEB_UI.replace(URL, url).replace("python -m", f"exec {sys.executable} -m").rstrip()
    with run_process(["sh", "-ec", f"{command} --port {port}"], {**os.environ, "HOME": str(home)}):
        here = f"http://localhost:{port}"
        wait_until_ready(here)
        with httpx.Client(base_url=here) as browser:
            assert browser.get("/").headers["Content-Type"].startswith("text/html")
            files = {"image": ("mug.png", (SAMPLES / "mug.png").read_bytes())}
            job = browser.post("/v1/jobs", files=files, data={"preset": "low_poly"}).json()
            assert job["status_url"] == f"{here}/v1/jobs/{job['id']}"
            events = browser.get(f"{job['status_url']}/events", timeout=HANG_S).text
            assert events.rstrip().splitlines()[-1].startswith("data: ")
            assert "event: succeeded" in events
            model = browser.get(f"/v1/jobs/{job['id']}/artifacts/model", follow_redirects=True)
    assert model.content.startswith(b"glTF")


def rows(header: str) -> list[list[str]]:
    """Parse the table whose header begins with `header`."""
    table = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in table]


def test_presets_are_those_of_the_contract() -> None:
    """Triangles, texture, and the size limit if there is one."""
    for _, name, triangles, texture, _, size in rows("| use | preset"):
        preset = PRESETS[name]  # type: ignore[index]
        shown = (int(triangles.replace(",", "")), int(texture))
        assert shown == (preset["decimation_target"], preset["texture_size"])
        bound = re.search(r"; ([\d.]+) (k|M)B at most", size)
        shown_bytes = round(float(bound[1]) * {"k": 1e3, "M": 1e6}[bound[2]]) if bound else None
        assert shown_bytes == preset.get("max_bytes")
    assert {row[1] for row in rows("| use | preset")} <= set(PRESET_NAMES)


@pytest.mark.parametrize("first", ["ss_sampling_steps", "decimation_target"])
def test_parameters_have_the_defaults_and_ranges_of_the_contract(first: str) -> None:
    """For each old parameter the table has the present range."""
    for names, _, now in rows(f"| parameter | then | now |\n|---|---|---|\n| `{first}"):
        for name in re.findall(r"\w+", names):
            field = Parameters.model_json_schema()["properties"].get(name)
            if field is None or name == "seed":
                continue
            written = now.replace(",", "").lower()
            assert json.dumps(field["default"]) in written
            if "minimum" in field:
                assert f"{field['minimum']} to {field['maximum']} is taken" in written


def test_pipeline_types_are_those_of_the_contract() -> None:
    """All four of them."""
    properties = Parameters.model_json_schema()["properties"]
    assert [row[0] for row in rows("| `pipeline_type`")] == properties["pipeline_type"]["enum"]


def test_every_named_parameter_and_setting_exists() -> None:
    """Parameters in Python syntax, and settings of the deployment."""
    deploy = (Path(__file__).parents[2] / "docs/deploy.md").read_text()
    given = set(re.findall(r"`([a-z_]+)=", PAGE)) - {"timeout_s"}
    assert given <= set(Parameters.model_fields)
    settings = set(re.findall(r"`([A-Z_]+)(?:=\w+)?`", PAGE)) - {"MASK", "BLEND"}
    assert [name for name in settings if not name.startswith("TRELLIS2_") and f"`{name}`" not in deploy] == []
