"""Quadric edge collapse (Garland and Heckbert 1997) as a program: meshes on stdin, simplified ones on stdout.

It imports nothing else of the package, so that a child process starts in a fifth of a second. It ends when its input
closes, so also when its parent is killed.
"""

import io
import signal
import sys
from typing import IO, Any

import fast_simplification
import numpy as np
from numpy.typing import NDArray

# How fast the allowed error grows between passes. Low values halve the error but may stop above the target; the next
# value continues from there.
AGGRESSION = (3.0, 5.0, 7.0, 10.0)
_LENGTH_BYTES = 8


def collapse(vertices: NDArray[np.float64], faces: NDArray[np.int32], target: int) -> list[NDArray[Any]]:
    """Simplify to at most `target` triangles if the shape allows it: float64 [vertices, 3], int32 [faces, 3]."""
    for aggression in AGGRESSION:
        if len(faces) <= target:
            break
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target, agg=aggression)
    if len(faces) > target:
        vertices, faces = _cluster_vertices(vertices, faces, target)
    return [vertices, faces.astype(np.int32)]


def _cluster_vertices(
    vertices: NDArray[np.float64], faces: NDArray[Any], target: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Merge the vertices in each cell of the finest grid that reaches the target (Rossignac and Borrel 1993).

    The last resort for meshes whose edges cannot collapse: loose triangles, fans, very many small parts.
    """
    coarse, fine = float(np.ptp(vertices, axis=0).max()), 0.0
    best = vertices[:0], faces[:0]
    for _ in range(12):
        cell = (coarse + fine) / 2
        _, cell_of_vertex, count = np.unique(np.floor(vertices / cell), axis=0, return_inverse=True, return_counts=True)
        merged = cell_of_vertex.reshape(-1)[faces]
        a, b, c = np.sort(merged, axis=1).T
        _, first = np.unique(np.stack([a, b, c], axis=1)[(a != b) & (b != c)], axis=0, return_index=True)
        kept = merged[(a != b) & (b != c)][np.sort(first)]
        if len(kept) > target:
            fine = cell
            continue
        coarse = cell
        sums = [np.bincount(cell_of_vertex.reshape(-1), vertices[:, axis]) for axis in range(3)]
        best = np.stack(sums, axis=1) / count[:, None], kept
    return best


def send(pipe: IO[bytes], *arrays: NDArray[Any]) -> None:
    """Write arrays as one message."""
    body = io.BytesIO()
    np.savez(body, *arrays)
    pipe.write(body.getbuffer().nbytes.to_bytes(_LENGTH_BYTES, "little"))
    pipe.write(body.getbuffer())
    pipe.flush()


def receive(pipe: IO[bytes]) -> list[NDArray[Any]]:
    """Read one message.

    Raises:
        EOFError: the other process has closed the pipe.
    """
    length = int.from_bytes(pipe.read(_LENGTH_BYTES), "little")
    body = pipe.read(length)
    if not length or len(body) < length:
        raise EOFError
    with np.load(io.BytesIO(body)) as arrays:
        return [arrays[name] for name in arrays.files]


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    while True:
        try:
            vertices, faces, target = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(sys.stdout.buffer, *collapse(vertices, faces, int(target)))


if __name__ == "__main__":
    _serve()
