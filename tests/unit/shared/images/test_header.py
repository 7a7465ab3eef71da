"""An image's header is checked before anything is stored or decoded."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from shared.errors import ImageRejected
from shared.images.header import HEADER_BYTES, ImageHeader, check_ending, read_header


def encode(image_format: str, *, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    noise = Image.frombytes("L", size, Random(19).randbytes(size[0] * size[1]))
    noise.convert(mode).save(file, image_format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 40, height: int = 30, depth: int = 8, colour_type: int = 2) -> bytes:
    """A PNG of `chunks` before its pixels, which are not worth decoding."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def read(body: bytes) -> ImageHeader:
    return read_header(body[:HEADER_BYTES], len(body), lambda offset, length: body[offset : offset + length])


def rejection(body: bytes) -> tuple[str, str]:
    """(code, sentence) of the refusal that the whole check gives."""
    with pytest.raises(ImageRejected) as refused:
        check_ending(read(body), len(body), lambda offset, length: body[offset : offset + length])
    return refused.value.code, str(refused.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_mode_is_read(mode: str) -> None:
    """A PNG gives its size and media type, whatever its pixel layout."""
    found = read(encode("png", mode=mode))
    assert ("png", 40, 30, "png", "image/png") == (
        found.format,
        found.width_px,
        found.height_px,
        found.extension,
        found.content_type,
    )


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\1" * 60_000}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_every_kind_is_read(mode: str, options: dict[str, object]) -> None:
    """A JPEG gives its size: baseline, progressive, with EXIF, in any colour space."""
    found = read(encode("jpeg", mode=mode, **options))
    assert (ImageHeader("jpeg", 40, 30), "jpg", "image/jpeg") == (found, found.extension, found.content_type)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_of_every_kind_is_read(mode: str, options: dict[str, object]) -> None:
    """A WebP gives its size: lossy, lossless, extended."""
    assert ImageHeader("webp", 40, 30) == read(encode("webp", mode=mode, **options))


def test_mpo_counts_as_its_first_frame() -> None:
    """A phone's multi-picture JPEG is a JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert ImageHeader("jpeg", 40, 30) == read(file.getvalue())


def test_size_behind_large_metadata_is_found_by_reading_on() -> None:
    """Half a megabyte of colour profile pushes the JPEG's size out of the head; `read_at` finds it in one call."""
    body = encode("jpeg", icc_profile=b"\1" * 500_000)
    calls: list[int] = []

    def read_at(offset: int, length: int) -> bytes:
        calls.append(offset)
        return body[offset : offset + length]

    assert ImageHeader("jpeg", 40, 30) == read_header(body[:HEADER_BYTES], len(body), read_at)
    assert 1 == len(calls)


def test_size_behind_large_metadata_is_refused_without_a_way_to_read_on() -> None:
    """With only its first bytes, an image whose size is declared later is refused with advice."""
    body = encode("jpeg", icc_profile=b"\1" * 500_000)
    with pytest.raises(ImageRejected, match="save it again without metadata"):
        read_header(body[:HEADER_BYTES], len(body))


def test_long_uncompressed_text_is_no_reason_to_refuse() -> None:
    """Image generators write their whole workflow into a PNG; plain text cannot explode."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("workflow", "x" * 300_000)
    notes.add_itxt("XML:com.adobe.xmp", "x" * 300_000)
    assert ImageHeader("png", 40, 30) == read(encode("png", pnginfo=notes))


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "not_an_image", "empty"),
        (b"hello, world", "not_an_image", "not an image"),
        (b"%PDF-1.7", "not_an_image", "PDF"),
        (encode("gif"), "format_unsupported", "a GIF"),
        (encode("bmp"), "format_unsupported", "a BMP"),
        (encode("tiff"), "format_unsupported", "a TIFF"),
        (encode("avif"), "format_unsupported", "an AVIF"),
        (encode("ico"), "format_unsupported", "an icon"),
        (encode("jpeg2000"), "format_unsupported", "a JPEG 2000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "format_unsupported", "a HEIC"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI", "format_unsupported", "Xcode"),
        (b"\x89PNG\n\x1a\n" + b"\0" * 40, "image_broken", "text mode"),
        (b"\xff\xd8\xff\xc3" + b"\0" * 20, "format_unsupported", "lossless"),
    ],
)
def test_other_file_is_refused_by_its_name(body: bytes, code: str, words: str) -> None:
    """The error names the file's format and says what to send instead."""
    found = rejection(body)
    assert (code, True) == (found[0], words in found[1])


@pytest.mark.parametrize(
    ("width", "height", "code"),
    [
        (0, 30, "image_broken"),
        (30, 0, "image_broken"),
        (16_385, 1, "image_too_large"),
        (1, 16_385, "image_too_large"),
        (8_000, 5_001, "image_too_large"),
        (2**31, 2**31, "image_too_large"),
    ],
)
def test_size_over_the_limits_is_refused(width: int, height: int, code: str) -> None:
    """Zero sides, long sides and too many pixels are refused from the header."""
    assert code == rejection(png(width=width, height=height))[0]


@pytest.mark.parametrize(("width", "height"), [(8_000, 5_000), (16_384, 1), (1, 16_384)])
def test_size_at_the_limits_is_read(width: int, height: int) -> None:
    """The limits themselves are allowed."""
    assert ImageHeader("png", width, height) == read(png(width=width, height=height))


def test_file_over_twenty_megabytes_is_refused() -> None:
    """The length alone decides."""
    with pytest.raises(ImageRejected, match="at most 20,000,000"):
        read_header(png()[:HEADER_BYTES], 20_000_001)


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_animation_is_refused(image_format: str) -> None:
    """More than one frame is refused: which of them is meant?"""
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, image_format, save_all=True, append_images=frames[1:])
    assert "animation_unsupported" == rejection(file.getvalue())[0]


@pytest.mark.parametrize(
    ("depth", "colour_type"), [(3, 0), (16, 3), (4, 2), (8, 7)], ids=["grey", "palette", "rgb", "unknown"]
)
def test_pixel_layout_that_does_not_exist_is_refused(depth: int, colour_type: int) -> None:
    """A PNG's depth and colour type must be one of the fifteen pairs that the format has."""
    assert "image_broken" == rejection(png(depth=depth, colour_type=colour_type))[0]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.98])
def test_truncated_file_is_refused(image_format: str, kept: float) -> None:
    """A file that ends too early is refused as such, wherever it was cut."""
    body = encode(image_format, size=(400, 300))
    assert "image_truncated" == rejection(body[: int(len(body) * kept)])[0]


def test_truncated_jpeg_with_a_thumbnail_is_refused() -> None:
    """The end marker of a thumbnail inside the EXIF data is not the image's."""
    body = encode("jpeg", size=(400, 300), exif=b"Exif\0\0" + encode("jpeg"))
    assert "image_truncated" == rejection(body[: len(body) // 2])[0]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("tail", [b"", b"\0" * 100_000], ids=["whole", "with bytes after its end"])
def test_whole_file_passes(image_format: str, tail: bytes) -> None:
    """A whole file passes, also with a phone's own data behind the end marker."""
    body = encode(image_format, size=(400, 300)) + tail
    check_ending(read(body), len(body), lambda offset, length: body[offset : offset + length])


@given(
    prefix=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", png()[:33], b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBPVP8X", b"RIFF", b"<"]
    ),
    rest=st.binary(max_size=300),
    size_bytes=st.integers(0, 400),
)
def test_no_bytes_raise_anything_else(prefix: bytes, rest: bytes, size_bytes: int) -> None:
    """Any bytes give a header or ImageRejected, also with a wrong declared size."""
    body = prefix + rest

    def read_at(offset: int, length: int) -> bytes:
        return body[offset : offset + length]

    with suppress(ImageRejected):
        check_ending(read_header(body, size_bytes, read_at), size_bytes, read_at)


@given(image_format=st.sampled_from(["png", "jpeg", "webp"]), data=st.data())
def test_no_changed_byte_raises_anything_else(image_format: str, data: st.DataObject) -> None:
    """A flipped byte anywhere in a real file gives a header or ImageRejected."""
    body = bytearray(encode(image_format))
    for _ in range(3):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    whole = bytes(body)
    with suppress(ImageRejected):
        check_ending(read(whole), len(whole), lambda offset, length: whole[offset : offset + length])


@contextmanager
def growth_below(limit_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit_bytes
    finally:
        tracemalloc.stop()


def flat_png(side_px: int) -> bytes:
    """A black 1-bit PNG: the whole image in a few kilobytes."""
    rows = zlib.compress(bytes((side_px + 7) // 8 + 1) * side_px, 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif_of_frames(count: int) -> bytes:
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * count + b"\x3b"


PACKED = zlib.compress(bytes(100_000_000), 9)
BOMBS = {
    "11 KB PNG of 9459^2": (flat_png(9_459), "image_too_large"),
    "22 KB PNG of 13376^2": (flat_png(13_376), "image_too_large"),
    "10,000-frame GIF": (gif_of_frames(10_000), "format_unsupported"),
    "SVG": (b"<?xml version='1.0'?><!-- a --><svg xmlns='http://www.w3.org/2000/svg'/>", "format_unsupported"),
    "HTML named .png": (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body><svg/></body></html>", "not_an_image"),
    "zTXt bomb": (png(chunk(b"zTXt", b"Comment\0\0" + PACKED)), "image_too_large"),
    "iTXt bomb": (png(chunk(b"iTXt", b"Comment\0\1\0\0\0" + PACKED)), "image_too_large"),
    "ICC bomb": (png(chunk(b"iCCP", b"profile\0\0" + PACKED)), "image_too_large"),
    "bomb in pieces": (png(chunk(b"zTXt", b"Comment\0\0" + PACKED[:9_000]) * 10), "image_too_large"),
    "truncated file": (encode("png", size=(400, 300))[:20_000], "image_truncated"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_fault_19_bomb_is_refused_from_the_header(name: str) -> None:
    """Every bomb is refused unopened, and memory grows by less than 50 MB (in truth by hardly any)."""
    body, code = BOMBS[name]
    with growth_below(5_000_000):
        found = rejection(body)
    assert code == found[0]
