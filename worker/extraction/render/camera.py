"""Where the poster is seen from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

YAW_RAD = np.radians(32)  # from the front, toward the object's left
PITCH_RAD = np.radians(18)  # from the horizon, upward
HALF_VIEW = float(np.tan(np.radians(14)))  # half the picture's side at distance one: a portrait lens
MARGIN = 0.78  # part of the picture's side that the object fills


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole: `eye` in metres, and the unit vectors right, up and back; float64 [3] each."""

    eye: NDArray[np.float64]
    right: NDArray[np.float64]
    up: NDArray[np.float64]
    back: NDArray[np.float64]

    @classmethod
    def facing(cls, points: NDArray[Any]) -> "Camera":
        """The three-quarter view in which the points just fill the picture, less its margin."""
        back = np.array([np.sin(YAW_RAD) * np.cos(PITCH_RAD), np.sin(PITCH_RAD), np.cos(YAW_RAD) * np.cos(PITCH_RAD)])
        right = np.cross([0.0, 1.0, 0.0], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        x, y, z = (points.astype(np.float64) @ np.stack([right, up, back], axis=1)).T
        view = HALF_VIEW * MARGIN
        # (x, y, z) stays inside where |x - eye_x| <= view * (eye_z - z), and so for y: four planes, one point on each.
        low_x, high_x = (x + view * z).max(), (x - view * z).min()
        low_y, high_y = (y + view * z).max(), (y - view * z).min()
        distance = max(low_x - high_x, low_y - high_y) / (2 * view)
        eye = right * (low_x + high_x) / 2 + up * (low_y + high_y) / 2 + back * distance
        return cls(eye, right, up, back)

    def project(self, points: NDArray[Any], side_px: int) -> NDArray[np.float32]:
        """Pixels from the upper left corner, and one over the depth; float32 [points, 3]."""
        local = (points.astype(np.float64) - self.eye) @ np.stack([self.right, self.up, self.back], axis=1)
        depth = np.maximum(-local[:, 2], 1e-6)
        scale = side_px / 2 / HALF_VIEW / depth
        pixels: NDArray[Any] = np.stack(
            [side_px / 2 + local[:, 0] * scale, side_px / 2 - local[:, 1] * scale, 1 / depth], axis=1
        )
        return pixels.astype(np.float32)
