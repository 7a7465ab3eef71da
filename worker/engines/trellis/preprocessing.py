"""Preprocess an image: remove its background, crop to the object, and extract features, once per job.

Cropping and resizing are those of upstream's `preprocess_image`. The background is removed by BiRefNet (MIT,
arXiv:2401.03407).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from shared.domain.parameters import Background
from shared.errors import NoObjectFound
from worker.engine import InputImage
from worker.engines.trellis.models.dinov3 import DEVIATION, MEAN

MAX_SIDE_PX = 1024
SOLID_ALPHA = 0.8 * 255  # above this a pixel belongs to the object
MIN_SIDE_PX = 8  # of the object after scaling: less shows nothing

Rgba = NDArray[np.uint8]
# From an image, uint8 [height, width, 3], to the object's alpha, uint8 [height, width].
RemoveBackground = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
ExtractFeatures = Callable[[NDArray[np.uint8]], Tensor]

NEARLY_WHITE = 235
SHADE_EXPONENT = 4.0  # gamma that spreads differences between near-whites
BIREFNET_SIDE_PX = 1024


@dataclass(frozen=True, slots=True)
class Conditioning:
    """An image, and its features by the size at which the model sees it."""

    rgb: NDArray[np.uint8]
    features: ExtractFeatures

    def at(self, side_px: int) -> Tensor:
        """Extract the features at a size of `side_px`: float32 [image tokens, channels]."""
        return self.features(resize_square(self.rgb, side_px)).float()


def isolate_object(image: InputImage, background: Background, remove_background: RemoveBackground) -> NDArray[np.uint8]:
    """Crop to the object and put it on black: uint8 [side, side, 3].

    The image's alpha channel is used if there is one, unless `background` is `remove`; `keep` takes the whole image for
    the object. `remove_background` runs only if neither applies.

    Raises:
        NoObjectFound: there is no object.
    """
    rgba = limit_size(image.rgba)
    if background == "remove" or (background == "auto" and not image.has_alpha):
        rgba = _with_alpha(rgba, remove_background(ensure_contrast(_on_white(rgba))))
    elif background == "keep" and not image.has_alpha:
        rgba = _with_alpha(rgba, np.full(rgba.shape[:2], 255, np.uint8))
    return crop_to_object(rgba)


def ensure_contrast(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Raise the contrast between near-whites of a white product on white, for the background removal only.

    Other images are returned unchanged: those whose border, or most of their area, is not white.
    """
    grey = rgb.min(axis=2)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if (
        np.median(border) < NEARLY_WHITE
        or np.mean(grey >= NEARLY_WHITE) < 0.5
        or (grey < NEARLY_WHITE // 2).mean() > 0.02
    ):
        return rgb
    return np.round(255 * (rgb / 255) ** SHADE_EXPONENT).astype(np.uint8)


def _on_white(rgba: Rgba) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _with_alpha(rgba: Rgba, alpha: NDArray[np.uint8]) -> Rgba:
    return np.concatenate([rgba[..., :3], alpha[..., None]], axis=2)


def limit_size(rgba: Rgba) -> Rgba:
    """Scale down until the longer side has at most 1024 pixels; uint8 [height, width, 4]."""
    height, width = rgba.shape[:2]
    scale = min(1, MAX_SIDE_PX / max(height, width))
    if scale == 1:
        return rgba
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(rgba).resize(size, Image.Resampling.LANCZOS))


def crop_to_object(rgba: Rgba) -> NDArray[np.uint8]:
    """Crop to the square around the object, on black: uint8 [side, side, 3].

    Raises:
        NoObjectFound: the alpha channel shows nothing, or too little.
    """
    rows, columns = np.nonzero(rgba[..., 3] > SOLID_ALPHA)
    if len(rows) == 0:
        raise NoObjectFound("nothing in the image stands out from its background")
    left, right, top, bottom = (int(edge) for edge in (columns.min(), columns.max(), rows.min(), rows.max()))
    half = max(right - left, bottom - top) // 2
    if 2 * half < MIN_SIDE_PX:
        raise NoObjectFound("the object is too small to be recognized: send a closer image")
    x, y = (left + right) / 2, (top + bottom) / 2
    cropped = Image.fromarray(rgba).crop((x - half, y - half, x + half, y + half))
    pixels = np.asarray(cropped).astype(np.float32) / 255
    return (pixels[..., :3] * pixels[..., 3:] * 255).astype(np.uint8)


def resize_square(rgb: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize a square image: uint8 [side, side, 3]."""
    return np.array(Image.fromarray(rgb).resize((side_px, side_px), Image.Resampling.LANCZOS))


class BiRefNet:
    """The published background removal model, run by its own code in the folder of its weights."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the model.

        Raises:
            ImportError: transformers, or a package that the model's code imports, is not installed.
            OSError: the folder does not contain the model.
        """
        from transformers import AutoModelForImageSegmentation

        load: Any = AutoModelForImageSegmentation.from_pretrained
        self._model = load(str(folder), trust_remote_code=True, local_files_only=True).eval().float().to(device)
        self._device = device

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the object's alpha, uint8 [height, width], for uint8 [height, width, 3]."""
        height, width = rgb.shape[:2]
        square = Image.fromarray(rgb).resize((BIREFNET_SIDE_PX, BIREFNET_SIDE_PX), Image.Resampling.BILINEAR)
        pixels = (np.asarray(square, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self._device)
        # Truncated to bytes, not rounded, like torchvision's to_pil_image.
        alpha = self._model(batch)[-1].sigmoid()[0, 0].mul(255).byte().cpu().numpy()
        return np.asarray(Image.fromarray(alpha).resize((width, height)))
