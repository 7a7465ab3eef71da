"""The client that the service's first users know."""

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
    """The client over a script, in an environment that says nothing."""
    own = {"transport": script.transport, "pause": script.pause, "clock": script.clock, "environment": {}}
    return TRELLIS2APIClient("https://3d.example.com", **own, **options)


def form_of(script: Script) -> dict[str, str]:
    """The texts of the form that was sent first."""
    found = re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n', script.requests[0].content.decode(errors="replace"))
    return dict(found)


def test_generate_gives_a_state_that_is_text(tmp_path: Path) -> None:
    """It can be written down; the seed that was used comes with it. The GLB of the job itself is a small one."""
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


def test_generate_leaves_the_seed_to_the_service_where_none_is_given() -> None:
    """The default type is sent, whatever the service's may become."""
    script = Script([job(code=202), job("succeeded")])
    client_of(script).generate(PNG)
    assert form_of(script) == {"preset": "low_poly", "pipeline_type": "1024_cascade"}


def test_extract_glb_exports_the_state_and_saves_the_file(tmp_path: Path) -> None:
    """With the defaults of a million triangles and 4096 pixels, and no others than were asked for."""
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
    """And none of its own; `timeout_s` bounds the waiting."""
    with pytest.raises(kind):
        client_of(Script(answers), timeout_s=20).generate(PNG)


def test_extract_glb_of_a_state_that_is_gone_says_so(tmp_path: Path) -> None:
    """Nothing is written."""
    with pytest.raises(NotFound), client_of(Script([problem(404)])) as client:
        client.extract_glb(state="job_1", output_path=tmp_path / "output.glb")
    assert list(tmp_path.iterdir()) == []
