"""Texels become image files: which format, which alpha mode, which channel where."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.contract import TextureFormat

JPEG_QUALITY = 92
WEBP_QUALITY = 90
OPAQUE_FROM = 250  # of 255: what sampling noise leaves of full alpha
VISIBLE_HOLES = 0.001  # share of the texels that must be less than opaque for alpha to matter
SOFT_EDGES = 0.25  # of those, the share that may be half transparent before a mask becomes a blend


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded texture."""

    body: bytes
    mime_type: str


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


def encoded(texels: NDArray[np.uint8], mode: str, wanted: TextureFormat) -> tuple[Picture, Picture]:
    """Base colour, and metallic and roughness; each on a thread of its own, as the encoders share no lock."""
    with ThreadPoolExecutor(1) as other:
        finish = other.submit(metallic_roughness, texels, wanted)
        return base_colour(texels, mode, wanted), finish.result()


def base_colour(texels: NDArray[np.uint8], mode: str, wanted: TextureFormat) -> Picture:
    """Colour and, unless opaque, alpha. A format that cannot hold alpha gives way to PNG where alpha matters."""
    if mode == "OPAQUE":
        return _encode(texels[..., :3], "jpeg" if wanted == "auto" else wanted)
    return _encode(texels[..., [0, 1, 2, 5]], "webp" if wanted == "webp" else "png")


def metallic_roughness(texels: NDArray[np.uint8], wanted: TextureFormat) -> Picture:
    """glTF's channels: roughness in green, metallic in blue; red is occlusion's, left white."""
    packed = np.empty((*texels.shape[:2], 3), dtype=np.uint8)
    packed[..., 0] = 255
    packed[..., 1] = texels[..., 4]
    packed[..., 2] = texels[..., 3]
    return _encode(packed, "jpeg" if wanted == "auto" else wanted)


def _encode(pixels: NDArray[np.uint8], form: str) -> Picture:
    body = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if form == "jpeg":
        image.save(body, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    elif form == "webp":
        image.save(body, "WEBP", quality=WEBP_QUALITY, method=0, exact=True)
    else:
        image.save(body, "PNG", compress_level=1)
    return Picture(body.getvalue(), f"image/{form}")
