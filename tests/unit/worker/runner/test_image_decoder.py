"""An image file becomes upright sRGB pixels with straight alpha."""

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from functools import cache
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shared.errors import ImageRejected
from worker.runner.image_decoder import MAX_PROFILE_BYTES, decode

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters() -> Image.Image:
    """Draw four colours, one per quarter, 20 x 10 px: each orientation looks different."""
    image = Image.new("RGB", (20, 10))
    for colour, corner in ((RED, (0, 0)), (GREEN, (10, 0)), (BLUE, (0, 5)), (WHITE, (10, 5))):
        image.paste(colour, (*corner, corner[0] + 10, corner[1] + 5))
    return image


def encode(image: Image.Image, image_format: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def code_of(body: bytes) -> str:
    with pytest.raises(ImageRejected) as refused:
        decode(body)
    return refused.value.code


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_opaque_image_has_no_alpha(image_format: str) -> None:
    """Each format gives uint8 [height, width, 4] at its full size, opaque."""
    decoded = decode(encode(quarters(), image_format))
    assert ((10, 20, 4), np.uint8, False) == (decoded.rgba.shape, decoded.rgba.dtype, decoded.has_alpha)
    np.testing.assert_allclose(decoded.rgba[2, 2, :3], RED, atol=40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_exif_orientation_is_applied(orientation: int, image_format: str) -> None:
    """However the camera was held, the image is upright."""
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # Transpose members, by orientation
    stored = quarters() if undo is None else quarters().transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encode(stored, image_format, exif=exif))
    corners = decoded.rgba[[2, 2, 7, 7], [4, 15, 4, 15], :3]
    np.testing.assert_allclose(corners, (RED, GREEN, BLUE, WHITE), atol=90)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_ignored() -> None:
    """Without readable metadata the pixels stay as they are stored."""
    assert (10, 20, 4) == decode(encode(quarters(), "jpeg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).rgba.shape


def test_palette_with_transparency_becomes_alpha() -> None:
    """A palette's transparent entries become alpha."""
    body = encode(quarters().convert("P", palette=Image.Palette.ADAPTIVE), transparency=bytes([0, 128, 255, 255]))
    decoded = decode(body)
    assert (True, {0, 128, 255}) == (decoded.has_alpha, set(np.unique(decoded.rgba[..., 3]).tolist()))


@pytest.mark.parametrize(("mode", "key"), [("L", 255), ("RGB", WHITE), ("1", 1)])
def test_transparent_colour_becomes_alpha(mode: str, key: object) -> None:
    """A PNG's single transparent colour becomes alpha."""
    decoded = decode(encode(quarters().convert(mode, dither=Image.Dither.NONE), transparency=key))
    assert [True, 255, 0] == [decoded.has_alpha, decoded.rgba[2, 2, 3], decoded.rgba[7, 15, 3]]


def test_straight_alpha_keeps_its_colours() -> None:
    """Colours under full transparency are kept, not premultiplied away."""
    decoded = decode(encode(Image.new("RGBA", (4, 4), (200, 100, 50, 0))))
    assert [200, 100, 50, 0] == decoded.rgba[0, 0].tolist()


def test_opaque_alpha_channel_does_not_count() -> None:
    """It says nothing about the object."""
    assert decode(encode(quarters().convert("RGBA"))).has_alpha is False


def test_16_bit_grey_is_scaled() -> None:
    """16-bit grey is scaled to 8 bits, not clipped."""
    grey = np.array([[0, 257, 32_768, 65_535]], np.uint16)
    assert [0, 1, 128, 255] == decode(encode(Image.fromarray(grey))).rgba[0, :, 0].tolist()


def test_cmyk_jpeg_keeps_its_colours() -> None:
    """A print image keeps its colours, and does not become a negative."""
    decoded = decode(encode(Image.new("RGB", (16, 16), (230, 40, 40)).convert("CMYK"), "jpeg"))
    np.testing.assert_allclose(decoded.rgba[8, 8, :3], (230, 40, 40), atol=12)


@cache  # the profile holds the time of its creation, and hypothesis needs the same bytes each time
def swapped_profile() -> bytes:
    """Make an sRGB profile with red and blue exchanged: applied, it exchanges the channels."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, blue = (profile[tags[name] + 4 : tags[name] + 12] for name in (b"rXYZ", b"bXYZ"))
    profile[tags[b"rXYZ"] + 4 : tags[b"rXYZ"] + 12], profile[tags[b"bXYZ"] + 4 : tags[b"bXYZ"] + 12] = blue, red
    return bytes(profile)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_colour_profile_is_applied(image_format: str) -> None:
    """Colours are brought to sRGB; alpha is left alone."""
    options = {} if image_format == "jpeg" else {"lossless": True}
    image = Image.new("RGB" if image_format == "jpeg" else "RGBA", (16, 16), (255, 0, 0))
    decoded = decode(encode(image, image_format, icc_profile=swapped_profile(), **options))
    np.testing.assert_allclose(decoded.rgba[8, 8], (*BLUE, 255), atol=8)


@pytest.mark.parametrize(
    "profile",
    [b"junk", swapped_profile()[:200], swapped_profile().ljust(MAX_PROFILE_BYTES + 1, b"\0")],
    ids=["junk", "cut off", "huge"],
)
def test_broken_or_huge_profile_is_ignored(profile: bytes) -> None:
    """Without a usable profile the colours stay as they are stored."""
    decoded = decode(encode(Image.new("RGB", (16, 16), RED), "jpeg", icc_profile=profile))
    np.testing.assert_allclose(decoded.rgba[8, 8, :3], RED, atol=3)


def test_profile_of_another_colour_space_is_ignored() -> None:
    """A grey image with an RGB profile keeps its greys."""
    decoded = decode(encode(Image.new("L", (4, 4), 90), icc_profile=swapped_profile()))
    assert [90, 90, 90, 255] == decoded.rgba[0, 0].tolist()


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_truncated_image_is_refused(image_format: str) -> None:
    """Half a file is not an image."""
    noise = Image.frombytes("L", (300, 200), Random(19).randbytes(60_000))
    body = encode(noise, image_format)
    assert code_of(body[: len(body) // 2]) == "image_truncated"


def test_broken_pixels_are_refused() -> None:
    """A changed byte in the compressed rows is noticed."""
    body = bytearray(encode(quarters()))
    body[body.index(b"IDAT") + 12] ^= 0xFF
    assert code_of(bytes(body)) in {"image_broken", "image_truncated"}


def test_fault_19_text_bomb_below_the_header_limit_stays_small() -> None:
    """Compressed text that the header check lets pass inflates to 1 MB at most, then the image is refused."""
    body = encode(quarters())
    data = b"zTXtComment\0\0" + zlib.compress(bytes(60_000_000), 9)
    bomb = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    tracemalloc.start()
    assert code_of(body[:33] + bomb + body[33:]) == "image_broken"
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 50_000_000


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(image_format=st.sampled_from(["png", "jpeg", "webp"]), data=st.data())
def test_no_changed_byte_raises_anything_else(image_format: str, data: st.DataObject) -> None:
    """Changed bytes anywhere in a real file give an image or ImageRejected."""
    exif = Image.Exif()
    exif[0x0112] = 6
    body = bytearray(encode(quarters(), image_format, exif=exif, icc_profile=swapped_profile()))
    for _ in range(3):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageRejected):
        decode(bytes(body))
