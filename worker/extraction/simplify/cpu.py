"""Simplify a mesh on the CPU, in a pool of child processes (`cpu_worker`).

The library holds the interpreter lock while it works, seconds for a million faces, and the parent process may answer
HTTP requests meanwhile. `concurrent.futures.ProcessPoolExecutor` was rejected: it cannot kill the child of a canceled
job, and its children import all of the parent's modules.
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

POLL_S = 0.2  # longest time until a canceled job is noticed
_idle: LifoQueue[subprocess.Popen[bytes]] = LifoQueue()


def simplify(
    vertices: NDArray[Any], faces: NDArray[Any], target: int, check_canceled: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Simplify to at most `target` triangles if the shape allows it: float64 [vertices, 3], int32 [faces, 3].

    Args:
        check_canceled: called every POLL_S while waiting; what it raises passes through, and the child is killed.

    Raises:
        EngineFailed: the child process died.
    """
    vertices = np.ascontiguousarray(vertices, dtype=np.float64)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    if len(faces) <= target:
        return vertices, faces
    child = _idle_child()
    try:
        cpu_worker.send(cast(IO[bytes], child.stdin), vertices, faces, np.array(target))
        output = cast(IO[bytes], child.stdout)
        while not select([output], [], [], POLL_S)[0]:
            check_canceled()
        vertices, faces = cpu_worker.receive(output)
    except (EOFError, BrokenPipeError) as error:
        _kill(child)
        raise EngineFailed("the process that simplifies meshes died") from error
    except BaseException:
        _kill(child)
        raise
    _idle.put(child)
    return vertices, faces


def _idle_child() -> subprocess.Popen[bytes]:
    """Return a child that waits for work, or start one."""
    while True:
        try:
            child = _idle.get_nowait()
        except Empty:
            program = [sys.executable, "-P", str(Path(cpu_worker.__file__))]
            return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own program
        if child.poll() is None:
            return child


def _kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()
