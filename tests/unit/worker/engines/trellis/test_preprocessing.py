"""Preparing an image, as TRELLIS.2 was trained to see it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shared.errors import NoObjectFound
from worker.engine import InputImage
from worker.engines.trellis.preprocessing import (
    crop_to_object,
    ensure_contrast,
    isolate_object,
    limit_size,
    resize_square,
)

Pixels = NDArray[np.uint8]


def _image(width: int, height: int, box: tuple[int, int, int, int], seed: int = 0) -> Pixels:
    """Noise everywhere, with soft alpha in and around a box (left, top, right, bottom)."""
    random = np.random.default_rng(seed)
    rgba = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    rgba[..., 3] //= 2
    left, top, right, bottom = box
    rgba[top:bottom, left:right, 3] = random.integers(150, 256, (bottom - top, right - left), dtype=np.uint8)
    return rgba


def _plain_frame(rgba: Pixels) -> Pixels:
    """The whole preparation of an image with alpha, restated pixel by pixel where that says more."""
    image = Image.fromarray(rgba)
    longest = max(image.size)
    if longest > 1024:
        factor = 1024 / longest
        image = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.LANCZOS)
    solid = [(x, y) for y in range(image.height) for x in range(image.width) if image.getpixel((x, y))[3] > 204]
    left, right = min(x for x, _ in solid), max(x for x, _ in solid)
    top, bottom = min(y for _, y in solid), max(y for _, y in solid)
    half = max(right - left, bottom - top) // 2
    x0, y0 = round((left + right) / 2 - half), round((top + bottom) / 2 - half)
    x1, y1 = round((left + right) / 2 + half), round((top + bottom) / 2 + half)
    out = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    for y in range(y0, y1):
        for x in range(x0, x1):
            if 0 <= x < image.width and 0 <= y < image.height:
                r, g, b, a = (np.float32(value) / 255 for value in image.getpixel((x, y)))
                out[y - y0, x - x0] = [int(value * a * 255) for value in (r, g, b)]
    return out


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((90, 70), (20, 10, 61, 50)),  # wider than high
        ((90, 70), (30, 5, 44, 66)),  # higher than wide: the square leaves the image
        ((91, 70), (0, 0, 91, 70)),  # all of it
        ((1300, 90), (300, 20, 401, 71)),  # scaled down first
    ],
)
def test_image_with_alpha_is_prepared_to_the_pixel(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    """Scaled, cropped to a square around the solid part, on black."""
    rgba = _image(*size, box)
    assert np.array_equal(_plain_frame(rgba), isolate_object(InputImage(rgba, has_alpha=True), "auto", _never))


def test_empty_alpha_shows_no_object() -> None:
    """Half transparent is not solid: an answer with a name, not a crash."""
    rgba = np.full((40, 40, 4), 204, np.uint8)
    with pytest.raises(NoObjectFound, match="stands out"):
        crop_to_object(rgba)


def test_speck_shows_no_object() -> None:
    """A few solid pixels are dirt."""
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[10:14, 10:14] = 255
    with pytest.raises(NoObjectFound, match="too small"):
        crop_to_object(rgba)


def test_small_image_is_not_scaled() -> None:
    """Up to 1024 pixels nothing is touched."""
    rgba = _image(1024, 30, (0, 0, 9, 9))
    assert limit_size(rgba) is rgba


def test_square_is_scaled_to_what_the_model_sees() -> None:
    """Up and down."""
    assert (512, 512, 3) == resize_square(np.zeros((90, 90, 3), np.uint8), 512).shape


def _never(_: Pixels) -> Pixels:
    raise AssertionError("the matte was asked for")


class _HalfMatte:
    """Takes the left half for the object, and keeps what it was shown."""

    def __init__(self) -> None:
        self.inputs: list[Pixels] = []

    def __call__(self, rgb: Pixels) -> Pixels:
        self.inputs.append(rgb)
        alpha = np.zeros(rgb.shape[:2], np.uint8)
        alpha[:, : rgb.shape[1] // 2] = 255
        return alpha


def test_background_is_removed_only_where_there_is_no_alpha() -> None:
    """And then once."""
    rgba = _image(80, 60, (10, 10, 70, 50))
    rgba[..., 3] = 255
    matte = _HalfMatte()
    assert (58, 58, 3) == isolate_object(InputImage(rgba, has_alpha=False), "auto", matte).shape
    assert 1 == len(matte.inputs)


def test_removal_may_be_asked_for() -> None:
    """Also of an image with alpha, which is put on white first."""
    rgba = _image(80, 60, (10, 10, 70, 50))
    matte = _HalfMatte()
    isolate_object(InputImage(rgba, has_alpha=True), "remove", matte)
    alpha = rgba[..., 3:] / 255
    assert np.abs(matte.inputs[0] - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1


def test_background_may_be_kept() -> None:
    """All of the image is then the object."""
    rgba = _image(80, 60, (10, 10, 70, 50))
    rgba[..., 3] = 255
    assert (78, 78, 3) == isolate_object(InputImage(rgba, has_alpha=False), "keep", _never).shape


def test_white_on_white_is_made_legible() -> None:
    """A white product on white has shades of a few per cent; the matte sees them more than three times as deep."""
    rgb = np.full((60, 60, 3), 255, np.uint8)
    rgb[20:40, 20:40] = 240
    contrasted = ensure_contrast(rgb)
    assert 255 == contrasted[0, 0, 0]
    assert 255 - 3 * 15 > contrasted[30, 30, 0]


@pytest.mark.parametrize("product", [60, 100])
def test_dark_product_on_white_is_left_alone(product: int) -> None:
    """It stands out as it is."""
    rgb = np.full((60, 60, 3), 255, np.uint8)
    rgb[20:40, 20:40] = product
    assert ensure_contrast(rgb) is rgb


def test_product_on_grey_is_left_alone() -> None:
    """The rim decides."""
    rgb = np.full((60, 60, 3), 128, np.uint8)
    assert ensure_contrast(rgb) is rgb
