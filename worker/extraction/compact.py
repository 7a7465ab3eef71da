"""Leave out the vertices that no face uses."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def only_used(faces: NDArray[Any], vertex_count: int) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which vertices some face uses, bool [vertices], and the faces over those alone, int32 [faces, 3]."""
    used = np.zeros(vertex_count, dtype=bool)
    used[faces] = True
    number = (np.cumsum(used) - 1).astype(np.int32)
    return used, number[faces]
