"""Fewer triangles for the same shape, worked out in a child process.

The simplifier holds the interpreter lock for as long as it works, seconds for a million faces, and the same process
answers HTTP requests. Children are kept and used again.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, LifoQueue
from select import select
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from shared.errors import EngineFailed
from worker.extraction.simplify import cpu_worker

POLL_S = 0.2  # how long a cancel may go unheard
_idle: LifoQueue[subprocess.Popen[bytes]] = LifoQueue()


def simplify(
    vertices: NDArray[Any], faces: NDArray[Any], target: int, alive: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """At most `target` triangles where the shape allows it: float64 [vertices, 3], int32 [faces, 3].

    alive: called while waiting; what it raises passes through, and the work is dropped.

    Raises:
        EngineFailed: the child died.
    """
    vertices = np.ascontiguousarray(vertices, dtype=np.float64)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    if len(faces) <= target:
        return vertices, faces
    child = _take()
    try:
        cpu_worker.send(cast(IO[bytes], child.stdin), vertices, faces, np.array(target))
        answer = cast(IO[bytes], child.stdout)
        while not select([answer], [], [], POLL_S)[0]:
            alive()
        vertices, faces = cpu_worker.receive(answer)
    except (EOFError, BrokenPipeError) as error:
        _end(child)
        raise EngineFailed("the process that simplifies meshes died") from error
    except BaseException:
        _end(child)
        raise
    _idle.put(child)
    return vertices, faces


def _take() -> subprocess.Popen[bytes]:
    while True:
        try:
            child = _idle.get_nowait()
        except Empty:
            program = [sys.executable, "-P", str(Path(cpu_worker.__file__))]
            return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own
        if child.poll() is None:
            return child


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()
