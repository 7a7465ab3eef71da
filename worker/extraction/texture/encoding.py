"""Texels become image files: which format, which alpha mode, which channel where, how much of it is kept."""

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
PNG_LEVELS: dict[Quality, int] = {"high": 256, "medium": 64, "low": 32}  # of each channel: fewer take fewer bytes
OPAQUE_FROM = 250  # of 255: what sampling noise leaves of full alpha
VISIBLE_HOLES = 0.001  # share of the texels that must be less than opaque for alpha to matter
SOFT_EDGES = 0.25  # of those, the share that may be half transparent before a mask becomes a blend


def alpha_mode(texels: NDArray[np.uint8], baked: NDArray[np.bool_]) -> str:
    """glTF's OPAQUE, MASK or BLEND, from the alpha of the texels that charts cover.

    texels: uint8 [rows, columns, 6], alpha last. baked: bool [rows, columns].
    """
    alpha = texels[..., 5][baked]
    holes = alpha[alpha < OPAQUE_FROM]
    if len(holes) <= VISIBLE_HOLES * len(alpha):
        return "OPAQUE"
    soft = np.count_nonzero((holes > 255 - OPAQUE_FROM) & (holes < OPAQUE_FROM))
    return "BLEND" if soft > SOFT_EDGES * len(holes) else "MASK"


def encode_textures(
    texels: NDArray[np.uint8], mode: str, wanted: TextureFormat, quality: Quality = "high"
) -> tuple[EncodedImage, EncodedImage]:
    """Base colour, and metallic and roughness; each on a thread of its own, as the encoders share no lock."""
    with ThreadPoolExecutor(1) as other:
        finish = other.submit(metallic_roughness, texels, wanted, quality)
        return base_colour(texels, mode, wanted, quality), finish.result()


def base_colour(texels: NDArray[np.uint8], mode: str, wanted: TextureFormat, quality: Quality = "high") -> EncodedImage:
    """Colour and, unless opaque, alpha. A format that cannot hold alpha gives way to PNG where alpha matters."""
    fine = quality == "high"
    if mode == "OPAQUE":
        return _encode(texels[..., :3], "jpeg" if wanted == "auto" else wanted, quality, fine_colour=fine)
    return _encode(texels[..., [0, 1, 2, 5]], "webp" if wanted == "webp" else "png", quality, fine_colour=fine)


def metallic_roughness(texels: NDArray[np.uint8], wanted: TextureFormat, quality: Quality = "high") -> EncodedImage:
    """glTF's channels: roughness in green, metallic in blue; red is occlusion's, left white."""
    packed = np.empty((*texels.shape[:2], 3), dtype=np.uint8)
    packed[..., 0] = 255
    packed[..., 1] = texels[..., 4]
    packed[..., 2] = texels[..., 3]
    return _encode(packed, "jpeg" if wanted == "auto" else wanted, quality, fine_colour=True)  # its colours are data


def halve(texels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The texels at half the side: each the mean of four, of their light where they are colour.

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


def _levels(count: int) -> NDArray[np.uint8]:
    """What each of 256 levels becomes where there are but so many, 0 and 255 among them."""
    nearest = np.round(np.arange(256) * (count - 1) / 255)
    return np.round(nearest * 255 / (count - 1)).astype(np.uint8)


def _encode(pixels: NDArray[np.uint8], form: str, quality: Quality, *, fine_colour: bool) -> EncodedImage:
    body = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if form == "jpeg":
        image.save(body, "JPEG", quality=JPEG_QUALITY[quality], subsampling=0 if fine_colour else 2)
    elif form == "webp":
        image.save(body, "WEBP", quality=WEBP_QUALITY[quality], method=0, exact=True)
    elif quality == "high":
        image.save(body, "PNG", compress_level=1)
    else:
        Image.fromarray(_levels(PNG_LEVELS[quality])[pixels]).save(body, "PNG", compress_level=6)
    return EncodedImage(body.getvalue(), f"image/{form}")
