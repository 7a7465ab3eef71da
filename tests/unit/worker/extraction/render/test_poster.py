"""The poster: an image on which the object can be recognized."""

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from worker.extraction.render import poster
from worker.extraction.render.scene import Camera

if TYPE_CHECKING:
    from tests.unit.worker.extraction.conftest import Made


def test_poster_is_a_webp_of_1024_pixels_and_always_the_same(made: "Made") -> None:
    """Equal assets, equal bytes."""
    body = poster.render_poster(made("knot"))
    image = Image.open(io.BytesIO(body))
    assert (image.format, image.size, poster.render_poster(made("knot")) == body) == ("WEBP", (1024, 1024), True)


def test_object_stands_out_in_its_colours(made: "Made") -> None:
    """The background is grey; the knot is colourful, in the middle, and fills a good part of the image."""
    pixels = poster.render_pixels(made("knot")).astype(int)
    colourful = np.ptp(pixels, axis=2) > 40
    rows, columns = np.nonzero(colourful)
    assert colourful.mean() > 0.1
    assert not colourful[:40].any()
    assert not colourful[-40:].any()
    assert [rows.mean(), columns.mean()] == pytest.approx([512, 512], abs=100)


def test_transparent_parts_show_the_background(made: "Made") -> None:
    """Cut out, or half so."""
    colourful = [
        (np.ptp(poster.render_pixels(made("sheet", alpha=alpha)).astype(int), axis=2) > 40).mean()
        for alpha in (1.0, 0.5, 0.0)
    ]
    assert colourful[0] > colourful[1] > colourful[2] > 0


def test_camera_sees_every_point_with_a_margin() -> None:
    """Whatever the shape: tall, flat or deep."""
    rng = np.random.default_rng(0)
    for stretch in ([1, 9, 1], [9, 1, 1], [1, 1, 9], [1, 1, 1]):
        points = rng.uniform(-0.5, 0.5, (500, 3)) * stretch
        pixels = Camera.facing(points).project(points, 1024)
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        assert (high - low).max() == pytest.approx(1024 * 0.78, rel=0.01)
        assert low.min() >= 1024 * 0.11 - 1
        assert high.max() <= 1024 * 0.89 + 1
