"""From a picture to what the sampler sees of it, once per job."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from shared.domain.parameters import Background
from worker.engine import InputImage
from worker.engines.trellis.preprocessing import Rgba, frame, scale, shrink

# The alpha, uint8 [height, width], of the object in a picture, uint8 [height, width, 3].
RemoveBackground = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
ExtractFeatures = Callable[[NDArray[np.uint8]], Tensor]

NEARLY_WHITE = 235
SHADE_EXPONENT = 4.0  # what turns differences between whites into differences


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A picture's features by the side, in pixels, that it was seen at; each is computed when it is first asked for."""

    rgb: NDArray[np.uint8]
    features: ExtractFeatures

    def at(self, side_px: int) -> Tensor:
        """Float32 [picture tokens, channels]."""
        return self.features(scale(self.rgb, side_px)).float()


def isolate_object(picture: InputImage, background: Background, matte: RemoveBackground) -> NDArray[np.uint8]:
    """The object of a picture on black, uint8 [side, side, 3].

    The picture's alpha is used where it has one, unless `background` is `remove`; `keep` takes all of the picture for
    the object. `matte` is asked only where neither says what the object is.

    Raises:
        NoObjectFound: there is none.
    """
    rgba = shrink(picture.rgba)
    if background == "remove" or (background == "auto" and not picture.has_alpha):
        rgba = _with_alpha(rgba, matte(ensure_contrast(_on_white(rgba))))
    elif background == "keep" and not picture.has_alpha:
        rgba = _with_alpha(rgba, np.full(rgba.shape[:2], 255, np.uint8))
    return frame(rgba)


def ensure_contrast(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as the matte should see it: a white product on white gets its shades spread out.

    Only where the picture's rim is white, and so is most of it; the sampler never sees this version.
    """
    grey = rgb.min(axis=2)
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(rim) < NEARLY_WHITE or np.mean(grey >= NEARLY_WHITE) < 0.5 or (grey < NEARLY_WHITE // 2).mean() > 0.02:
        return rgb
    return np.round(255 * (rgb / 255) ** SHADE_EXPONENT).astype(np.uint8)


def _on_white(rgba: Rgba) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _with_alpha(rgba: Rgba, alpha: NDArray[np.uint8]) -> Rgba:
    return np.concatenate([rgba[..., :3], alpha[..., None]], axis=2)
