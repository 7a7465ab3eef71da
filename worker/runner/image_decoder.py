"""Decode an image file into upright sRGB pixels with straight alpha, within the API's limits."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from shared.errors import ImageRejected
from shared.images.header import HEADER_BYTES, check_ending, read_header
from worker.engine import InputImage

MAX_PROFILE_BYTES = 4_194_304  # the largest printer profiles in use have about 3 MB

# What Pillow's decoders raise on broken files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# EXIF orientation (CIPA DC-008, tag 0x0112): the transpose that makes the stored rows upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112


def decode(body: bytes) -> InputImage:
    """Decode a PNG, JPEG or WebP at its full size.

    A valid colour profile and the EXIF orientation are applied; 16-bit, grey, palette and CMYK pixels become 8-bit
    RGB.

    Raises:
        ImageRejected: another format, over a limit, animated, cut off, or broken.
    """
    _check(body)
    try:
        with Image.open(io.BytesIO(body), formats=("PNG", "JPEG", "WEBP")) as image:
            image.load()
            return _to_input_image(image)
    except _DECODER_ERRORS as error:
        if "truncated" in str(error):
            raise ImageRejected("image_truncated", "the image is cut off: send the whole file again") from error
        raise ImageRejected("image_broken", "the image cannot be decoded: save it again") from error


def _check(body: bytes) -> None:
    def read_at(offset: int, length: int) -> bytes:
        return body[offset : offset + length]

    header = read_header(body[:HEADER_BYTES], len(body), read_at)
    check_ending(header, len(body), read_at)


def _to_input_image(image: Image.Image) -> InputImage:
    orientation = _orientation(image)
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    if upright.mode.startswith("I"):
        rgba = _from_16_bit(upright, image.info.get("transparency"))
    else:
        rgba = np.array(_to_rgba(upright, image.info.get("icc_profile")))
    return InputImage(rgba, has_alpha=bool((rgba[..., 3] < 255).any()))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:  # many cameras and editors write broken metadata; the pixels count
        return 1


def _from_16_bit(image: Image.Image, transparent: int | None) -> NDArray[np.uint8]:
    """Scale 16-bit grey to 8 bits; Pillow would clip it at 255."""
    grey = np.array(image).astype(np.uint32)
    rgba = np.full((*grey.shape, 4), 255, np.uint8)
    rgba[..., :3] = ((grey * 255 + 32_767) // 65_535)[..., None]
    if transparent is not None:
        rgba[grey == transparent, 3] = 0
    return rgba


def _to_rgba(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    rgb = _to_srgb(image, profile) if profile else None
    rgba = image.convert("RGBA")
    if rgb is not None:
        rgb.putalpha(rgba.getchannel("A"))
        return rgb
    return rgba


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert the colours to sRGB; None where the profile cannot be used: the image is then read as sRGB."""
    mode = {"L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    if len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image.convert(mode), source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # broken, or for another colour space
        return None
