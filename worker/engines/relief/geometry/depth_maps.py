"""A body as maps on the grid, packed into a State and read back from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import StateMissing

BORDER_CELLS = 3  # kept around the body, so that the outline can be found again


@dataclass(frozen=True, slots=True)
class DepthMaps:
    """All that the surface is made from, row 0 on top.

    front, back: float32 [side, side], half thickness in cells before and behind the middle plane. Negative outside:
    minus the root of what its square would fall to, which tells where between the cells the outline runs.
    attributes: float32 [side, side, 6] in [0, 1], as in a Surface.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    attributes: NDArray[np.float32]

    def pack(self) -> dict[str, NDArray[Any]]:
        """Compact arrays of the part of the grid that the body takes up: 10 bytes a cell."""
        side = self.front.shape[0]
        rows, columns = (_span(self.front.max(axis=axis) > 0) for axis in (1, 0))
        # The half thickness never reaches half the grid, so this leaves no more than 1/42 cell to rounding at 1536.
        scale = 2 * np.iinfo(np.int16).max / side
        return {
            "front": _rounded(self.front[rows, columns] * scale),
            "back": _rounded(self.back[rows, columns] * scale),
            "attributes": np.rint(self.attributes[rows, columns] * 255).astype(np.uint8),
            "origin": np.array([rows.start, columns.start], np.int32),
            "side": np.array([side], np.int32),
        }

    @classmethod
    def unpack(cls, arrays: Mapping[str, NDArray[Any]]) -> "DepthMaps":
        """Read what `pack` wrote.

        Raises:
            StateMissing: these are not its arrays.
        """
        try:
            side, (top, left) = int(arrays["side"][0]), arrays["origin"].tolist()
            height, width = arrays["front"].shape
            place = (slice(top, top + height), slice(left, left + width))
            front, back = (np.full((side, side), -1, np.float32) for _ in range(2))
            attributes = np.zeros((side, side, 6), np.float32)
            scale = 2 * np.iinfo(np.int16).max / side
            front[place] = arrays["front"] / np.float32(scale)
            back[place] = arrays["back"] / np.float32(scale)
            attributes[place] = arrays["attributes"] / np.float32(255)
        except (KeyError, ValueError, IndexError) as error:
            raise StateMissing("the stored state is not a relief's; generate the asset again") from error
        return cls(front, back, attributes)


def _span(used: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(used)
    return slice(max(int(places[0]) - BORDER_CELLS, 0), int(places[-1]) + 1 + BORDER_CELLS)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Rounded, but never from inside to outside: front and back must agree on the outline."""
    inside = np.clip(np.rint(values), 1, np.iinfo(np.int16).max)
    outside = np.clip(np.rint(values), np.iinfo(np.int16).min, -1)
    return np.where(values > 0, inside, outside).astype(np.int16)
