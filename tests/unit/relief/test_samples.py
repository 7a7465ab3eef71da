"""The sample pictures show what the engine is good at."""

from pathlib import Path

import pytest

from worker.images import decode
from worker.relief.silhouette import matte

SAMPLES = Path(__file__).parents[3] / "docs" / "samples"


@pytest.mark.parametrize(("name", "share"), [("mug.png", 0.33), ("robot.jpg", 0.24), ("duck.webp", 0.26)])
def test_sample_shows_one_object_and_stays_small(name: str, share: float) -> None:
    """Each sample is under 300 kB, and the object takes up the part of it that was drawn."""
    body = (SAMPLES / name).read_bytes()
    picture = decode(body)
    found = matte(picture.rgba, "auto", has_alpha=picture.has_alpha) > 0.5
    assert (True, name.endswith("png")) == (len(body) < 300_000, picture.has_alpha)
    assert found.mean() == pytest.approx(share, abs=0.03)
