"""Simplification in a child process."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from bench.geometry.surfaces import knot, parts
from shared.errors import EngineFailed, JobStopped
from worker.extraction.simplify import cpu as module
from worker.extraction.simplify.cpu import simplify


def test_mesh_within_its_target_stays_as_it_is() -> None:
    """No child process is used."""
    surface = knot(20, 10, 32)
    vertices, faces = simplify(surface.vertices, surface.faces, 400, lambda: None)
    assert (len(faces), (faces == surface.faces).all(), np.allclose(vertices, surface.vertices)) == (400, True, True)


@pytest.mark.parametrize("target", [1_000, 5_000])
def test_target_is_kept(target: int) -> None:
    """One solid, and many parts."""
    for surface in (knot(200, 60, 32), parts(40, 14, 32)):
        assert len(simplify(surface.vertices, surface.faces, target, lambda: None)[1]) <= target


def test_cancel_stops_the_child() -> None:
    """The busy child is killed; the next call starts a new one."""

    def stop() -> None:
        raise JobStopped

    surface = knot(1_000, 250, 64)
    with pytest.raises(JobStopped):
        simplify(surface.vertices, surface.faces, 1_000, stop)
    assert len(simplify(surface.vertices[:100], surface.faces[:1], 1, stop)[1]) == 1


def test_dead_child_is_an_engine_failure() -> None:
    """The call raises instead of waiting forever."""
    surface = knot(1_000, 250, 64)
    before = _children()

    def kill() -> None:
        for child in _children() - before:
            os.kill(child, signal.SIGKILL)

    while not module._idle.empty():
        module._kill(module._idle.get())
    with pytest.raises(EngineFailed):
        simplify(surface.vertices, surface.faces, 1_000, kill)


def _children() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
