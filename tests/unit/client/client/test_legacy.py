"""The API of the first version."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from trellis2_modal import InputRejected, JobFailed, NotFound, WaitTimedOut
from trellis2_modal.client import TRELLIS2APIClient

from tests.unit.client.scripted_transport import GLB, Script, job, located, model, problem, streamed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def client_of(script: Script, **options: Any) -> TRELLIS2APIClient:
    """Make a client over a script, with an empty environment."""
    own = {"transport": script.transport, "pause": script.pause, "clock": script.clock, "environment": {}}
    return TRELLIS2APIClient("https://3d.example.com", **own, **options)


def form_of(script: Script) -> dict[str, str]:
    """Parse the text fields of the first request's form."""
    found = re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n', script.requests[0].content.decode(errors="replace"))
    return dict(found)


def test_generate_returns_a_state_as_text(tmp_path: Path) -> None:
    """With the seed that was used. The GLB of the job itself is a small one."""
    (tmp_path / "input.png").write_bytes(PNG)
    script = Script([job(code=202), job("succeeded", seed=42, timings={"shape": 2.0}, gpu_seconds=3.0, cost_usd=0.02)])
    client = client_of(script)
    result = client.generate(image_path=str(tmp_path / "input.png"), pipeline_type="512", seed=42, ss_sampling_steps=16)
    assert form_of(script) == {"preset": "low_poly", "pipeline_type": "512", "seed": "42", "ss_sampling_steps": "16"}
    assert json.loads(json.dumps(result)) == {
        "state": "job_1",
        "seed": 42,
        "timings": {"shape": 2.0},
        "gpu_seconds": 3.0,
        "cost_usd": 0.02,
    }


def test_generate_without_a_seed_sends_none() -> None:
    """The default pipeline type is sent, because the service's default may change."""
    script = Script([job(code=202), job("succeeded")])
    client_of(script).generate(PNG)
    assert form_of(script) == {"preset": "low_poly", "pipeline_type": "1024_cascade"}


def test_extract_glb_exports_the_state_and_saves_the_file(tmp_path: Path) -> None:
    """With the defaults of a million triangles and 4096 pixels, and only given parameters."""
    answers = [job("succeeded"), job(code=202, id="job_2"), job("succeeded", id="job_2", artifacts=model())]
    script = Script([*answers, located(), streamed(GLB, content_type="model/gltf-binary")])
    path = client_of(script).extract_glb(state="job_1", output_path=tmp_path / "output.glb")
    assert path.read_bytes() == GLB
    assert json.loads(script.requests[1].content) == {
        "preset": "max_quality",
        "decimation_target": 1_000_000,
        "texture_size": 4096,
        "remesh": True,
    }


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([problem(422)], InputRejected),
        ([job(code=202), job("failed")], JobFailed),
        ([job(code=202, status="running")] + [job("running")] * 100, WaitTimedOut),
    ],
    ids=["refused", "failed", "too long"],
)
def test_generate_raises_the_errors_of_the_tree(answers: list[Any], kind: type[Exception]) -> None:
    """`timeout_s` limits the waiting."""
    with pytest.raises(kind):
        client_of(Script(answers), timeout_s=20).generate(PNG)


def test_extract_glb_of_a_missing_state_raises_not_found(tmp_path: Path) -> None:
    """No file is written."""
    with pytest.raises(NotFound), client_of(Script([problem(404)])) as client:
        client.extract_glb(state="job_1", output_path=tmp_path / "output.glb")
    assert list(tmp_path.iterdir()) == []
