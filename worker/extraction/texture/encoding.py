"""Encode texels as glTF textures: file format, alpha mode, channels, and quality."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.domain.parameters import TextureFormat
from worker.extraction.kernels.texels import COLOURS, FROM_LIGHT, TO_LIGHT
from worker.extraction.model.asset import EncodedImage

Quality = Literal["high", "medium", "low"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
JPEG_QUALITY: dict[Quality, int] = {"high": 92, "medium": 85, "low": 75}
WEBP_QUALITY: dict[Quality, int] = {"high": 90, "medium": 80, "low": 70}
PNG_LEVELS: dict[Quality, int] = {"high": 256, "medium": 64, "low": 32}  # values of each channel: fewer compress better
OPAQUE_FROM = 230  # of 255: a decoder's noise lowers full alpha down to this; glass has less
VISIBLE_HOLES = 0.001  # part of the texels that must be less than opaque for alpha to matter
SOFT_EDGES = 0.25  # part of those that may be half transparent in a mask; beyond it is a blend


def alpha_mode(texels: NDArray[np.uint8], baked: NDArray[np.bool_]) -> str:
    """Choose glTF's OPAQUE, MASK or BLEND from the alpha of the texels that charts cover.

    Args:
        texels: uint8 [rows, columns, 6], alpha last.
        baked: bool [rows, columns].
    """
    alpha = texels[..., 5][baked]
    holes = alpha[alpha < OPAQUE_FROM]
    if len(holes) <= VISIBLE_HOLES * len(alpha):
        return "OPAQUE"
    soft = np.count_nonzero((holes > 255 - OPAQUE_FROM) & (holes < OPAQUE_FROM))
    return "BLEND" if soft > SOFT_EDGES * len(holes) else "MASK"


def encode_textures(
    texels: NDArray[np.uint8], mode: str, texture_format: TextureFormat, quality: Quality = "high"
) -> tuple[EncodedImage, EncodedImage]:
    """Return base colour and metallic-roughness. They are encoded in two threads: the encoders share no lock."""
    with ThreadPoolExecutor(1) as pool:
        metallic_roughness = pool.submit(encode_metallic_roughness, texels, texture_format, quality)
        return encode_base_colour(texels, mode, texture_format, quality), metallic_roughness.result()


def encode_base_colour(
    texels: NDArray[np.uint8], mode: str, texture_format: TextureFormat, quality: Quality = "high"
) -> EncodedImage:
    """Encode colour and, unless the mode is OPAQUE, alpha; then PNG replaces a format without alpha."""
    full_chroma = quality == "high"
    if mode == "OPAQUE":
        form = "jpeg" if texture_format == "auto" else texture_format
        return _encode(texels[..., :3], form, quality, full_chroma=full_chroma)
    form = "webp" if texture_format == "webp" else "png"
    return _encode(texels[..., [0, 1, 2, 5]], form, quality, full_chroma=full_chroma)


def encode_metallic_roughness(
    texels: NDArray[np.uint8], texture_format: TextureFormat, quality: Quality = "high"
) -> EncodedImage:
    """Encode glTF's channels: roughness in green, metallic in blue, and red, which is for occlusion, white."""
    packed = np.empty((*texels.shape[:2], 3), dtype=np.uint8)
    packed[..., 0] = 255
    packed[..., 1] = texels[..., 4]
    packed[..., 2] = texels[..., 3]
    form = "jpeg" if texture_format == "auto" else texture_format
    return _encode(packed, form, quality, full_chroma=True)  # its channels are data, not colours


def halve(texels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the texels at half the side: means of four, of colours in linear light.

    Args:
        texels: uint8 [rows, columns, 6], both even.
    """
    rows, columns, channels = texels.shape
    small = np.empty((rows // 2, columns // 2, channels), dtype=np.uint8)
    for channel in range(channels):
        codes = texels[..., channel]
        values = TO_LIGHT[codes] if channel < COLOURS else codes.astype(np.uint32)
        total = values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
        small[..., channel] = FROM_LIGHT[(total + 2) // 4] if channel < COLOURS else (total + 2) // 4
    return small


def _quantize(count: int) -> NDArray[np.uint8]:
    """Return the closest of `count` evenly spaced values, with 0 and 255 among them, for each code; uint8 [256]."""
    nearest = np.round(np.arange(256) * (count - 1) / 255)
    return np.round(nearest * 255 / (count - 1)).astype(np.uint8)


def _encode(pixels: NDArray[np.uint8], form: str, quality: Quality, *, full_chroma: bool) -> EncodedImage:
    body = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if form == "jpeg":
        image.save(body, "JPEG", quality=JPEG_QUALITY[quality], subsampling=0 if full_chroma else 2)
    elif form == "webp":
        image.save(body, "WEBP", quality=WEBP_QUALITY[quality], method=0, exact=True)
    elif quality == "high":
        image.save(body, "PNG", compress_level=1)
    else:
        Image.fromarray(_quantize(PNG_LEVELS[quality])[pixels]).save(body, "PNG", compress_level=6)
    return EncodedImage(body.getvalue(), f"image/{form}")
