"""The body as maps on the grid: half thickness to the front and to the back, and material; packed into a State."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import StateMissing

MARGIN_CELLS = 3  # stored around the body, so that the outline can be reconstructed


@dataclass(frozen=True, slots=True)
class DepthMaps:
    """All that the surface is built from, row 0 on top.

    front, back: float32 [side, side], half thickness in cells before and behind the middle plane. Outside it is
    negative, minus the root of what the squared thickness would fall to: its zero crossing gives the outline's position
    between the cells.
    attributes: float32 [side, side, 6] in [0, 1], as in a Surface.
    """

    front: NDArray[np.float32]
    back: NDArray[np.float32]
    attributes: NDArray[np.float32]

    def pack(self) -> dict[str, NDArray[Any]]:
        """Return compact arrays of the part of the grid that the body covers: 10 bytes per cell."""
        side = self.front.shape[0]
        rows, columns = (_span(self.front.max(axis=axis) > 0) for axis in (1, 0))
        # Half thickness stays under half the grid, so rounding changes it by at most 1/42 cell at 1536 cells.
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
            window = (slice(top, top + height), slice(left, left + width))
            front, back = (np.full((side, side), -1, np.float32) for _ in range(2))
            attributes = np.zeros((side, side, 6), np.float32)
            scale = 2 * np.iinfo(np.int16).max / side
            front[window] = arrays["front"] / np.float32(scale)
            back[window] = arrays["back"] / np.float32(scale)
            attributes[window] = arrays["attributes"] / np.float32(255)
        except (KeyError, ValueError, IndexError) as error:
            raise StateMissing("the stored state is not a relief's; generate the asset again") from error
        return cls(front, back, attributes)


def _span(used: NDArray[np.bool_]) -> slice:
    """Return the range from the first true item to the last, with the margin."""
    indices = np.flatnonzero(used)
    return slice(max(int(indices[0]) - MARGIN_CELLS, 0), int(indices[-1]) + 1 + MARGIN_CELLS)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round, but never from inside to outside: front and back must agree on the outline."""
    inside = np.clip(np.rint(values), 1, np.iinfo(np.int16).max)
    outside = np.clip(np.rint(values), np.iinfo(np.int16).min, -1)
    return np.where(values > 0, inside, outside).astype(np.int16)
