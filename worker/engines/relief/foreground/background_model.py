"""What the background of an opaque picture looks like, judged by the picture's border."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BORDER_SHARE = 0.03  # of the longer side: how wide a border speaks for the background
FIT_ROUNDS = 6  # of reweighting: the product may reach into the border
OUTLIER = 6.0  # CIELAB units beyond which a border pixel is no longer background
PLAIN_SHARE = 0.65  # of the border that one smooth backdrop must explain
MIN_NOISE = 0.5  # CIELAB units: compression alone makes that much
MAX_NOISE = 5.0  # CIELAB units: what a plain backdrop may scatter by


@dataclass(frozen=True, slots=True)
class BackgroundModel:
    """One smooth surface of light, as a photographer hangs it behind a product.

    lab: float32 [rows, columns, 3], CIELAB (L 0-100). noise: how much the border scatters around it, CIELAB units.
    explains: the share of the border that it explains.
    """

    lab: NDArray[np.float32]
    noise: float
    explained_share: float

    @property
    def is_plain(self) -> bool:
        """Whether there is such a surface at all."""
        return self.explained_share >= PLAIN_SHARE and self.noise <= MAX_NOISE


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB, float32, L 0-100, of sRGB bytes."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def border_mask(rows: int, columns: int) -> NDArray[np.bool_]:
    """The pixels that speak for the background: bool [rows, columns]."""
    width = max(3, round(BORDER_SHARE * max(rows, columns)))
    inside = np.zeros((rows, columns), np.bool_)
    inside[width:-width, width:-width] = True
    return ~inside


def fit_background(lab: NDArray[np.float32]) -> BackgroundModel:
    """Fit a quadratic in x and y to the border, leaving out what does not belong (Tukey's biweight)."""
    rows, columns = lab.shape[:2]
    ring = border_mask(rows, columns)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    known, wanted = terms[ring], lab[ring].astype(np.float64)
    away = np.linalg.norm(wanted - np.median(wanted, axis=0), axis=1)
    solution = np.zeros((terms.shape[-1], 3))
    for _ in range(FIT_ROUNDS):
        reach = max(OUTLIER, 4 * float(np.median(away)))
        weight = np.clip(1 - (away / reach) ** 2, 0, 1)[:, None]
        # A little ridge keeps a border that is mostly covered from bending the surface.
        normal = (known * weight**2).T @ known + 1e-3 * len(known) * np.diag([0, 0.1, 0.1, 1, 1, 1])
        solution = np.linalg.solve(normal, (known * weight**2).T @ wanted)
        away = np.linalg.norm(wanted - known @ solution, axis=1)
    belongs = away < OUTLIER
    noise = float(np.sqrt((away[belongs] ** 2).mean())) if belongs.any() else np.inf
    return BackgroundModel((terms @ solution).astype(np.float32), max(noise, MIN_NOISE), float(belongs.mean()))
