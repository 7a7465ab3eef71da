"""The engine on the sample images."""

from pathlib import Path

import pytest

from shared.domain.parameters import resolve
from worker.engine import Progress
from worker.engines.relief import Relief
from worker.engines.relief.segmentation import extract_matte
from worker.extraction.kernels import runtime
from worker.extraction.remesh.remesh import MIN_FACES, remesh
from worker.runner.image_decoder import decode

SAMPLES = Path(__file__).parents[5] / "docs" / "samples"


@pytest.mark.parametrize(("name", "share"), [("mug.png", 0.33), ("robot.jpg", 0.24), ("duck.webp", 0.26)])
def test_sample_shows_one_object_and_stays_small(name: str, share: float) -> None:
    """Each sample is under 300 kB, and the object covers the share of it that was drawn."""
    body = (SAMPLES / name).read_bytes()
    image = decode(body)
    inside = extract_matte(image.rgba, "auto", has_alpha=image.has_alpha) > 0.5
    assert (True, name.endswith("png")) == (len(body) < 300_000, image.has_alpha)
    assert inside.mean() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("name", ["mug.png", "robot.jpg"])
def test_sample_is_not_taken_for_a_rough_surface(name: str) -> None:
    """One offset mesh in coarse cells is enough for its few triangles: finer cells take far longer."""
    engine = Relief()
    parameters = resolve({"pipeline_type": "512"}, "game")
    state = engine.sample(decode((SAMPLES / name).read_bytes()), parameters, 1, Progress())
    surface = engine.decode(state, Progress())
    _, triangles = remesh(
        runtime.build_bvh(surface.vertices, surface.faces, "cpu"),
        target_faces=parameters.decimation_target,
        finest_cell_m=1 / surface.resolution,
        band=parameters.remesh_band,
        project=parameters.remesh_project,
        keep_hidden=False,
        step=lambda _: None,
    )
    assert len(triangles) <= 2 * MIN_FACES
