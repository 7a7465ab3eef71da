"""Quadric edge collapse as a program: meshes in at standard input, fewer triangles out at standard output.

It stands alone, without the rest of the package, so that a child process starts in a fifth of a second. It ends when
its input closes, and so also when its parent is killed.
"""

import io
import signal
import sys
from typing import IO, Any

import fast_simplification
import numpy as np
from numpy.typing import NDArray

# How fast the allowed error grows between passes. Gentle passes give half the error and may stop above the target;
# the next, less gentle one goes on from there.
AGGRESSION = (3.0, 5.0, 7.0, 10.0)
_LENGTH_BYTES = 8


def collapse(vertices: NDArray[np.float64], faces: NDArray[np.int32], target: int) -> list[NDArray[Any]]:
    """At most `target` triangles where the shape allows it: float64 [vertices, 3], int32 [faces, 3]."""
    for aggression in AGGRESSION:
        if len(faces) <= target:
            break
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target, agg=aggression)
    return [vertices, faces.astype(np.int32)]


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
        EOFError: the other side is gone.
    """
    length = int.from_bytes(pipe.read(_LENGTH_BYTES), "little")
    body = pipe.read(length)
    if not length or len(body) < length:
        raise EOFError
    with np.load(io.BytesIO(body)) as arrays:
        return [arrays[name] for name in arrays.files]


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    while True:
        try:
            vertices, faces, target = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(sys.stdout.buffer, *collapse(vertices, faces, int(target)))


if __name__ == "__main__":
    _serve()
