"""The engine of the page's tests: the relief engine, quick with pictures of one colour; it can be held, and blinded."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from shared.domain.job import Stage
from shared.domain.parameters import Parameters
from shared.errors import NoObjectFound
from tests.support.stub_engine import Block
from worker.engine import InputImage, Progress, State, Surface
from worker.engines.relief import Relief

HELD_LOOK_S = 0.02
Colour = tuple[int, int, int]


class Studio:
    """Pictures of one colour become blocks in it at once, all others reliefs."""

    name = "relief"

    def __init__(self) -> None:
        self._relief = Relief()
        self._block = Block()
        self._may_go = threading.Event()
        self._may_go.set()
        self._unseen: Colour | None = None

    @contextmanager
    def blind_to(self, colour: Colour) -> Iterator[None]:
        """Until the end of a `with` it finds nothing in pictures of one colour."""
        self._unseen = colour
        try:
            yield
        finally:
            self._unseen = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Whatever is being shaped waits, in the stage `shape`, until the end of a `with`."""
        self._may_go.clear()
        try:
            yield
        finally:
            self._may_go.set()

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """By either engine; a held job keeps reporting, so that a cancel reaches it."""
        if not self._may_go.is_set():
            progress.show_preview(image.rgba)
        while not self._may_go.wait(HELD_LOOK_S):
            progress(Stage.SHAPE, 0.5)
        visible = image.rgba[image.rgba[..., 3] > 0]
        is_plain = image.has_alpha and bool((visible == visible[:1]).all()) and len(visible) > 0
        if is_plain and tuple(visible[0, :3]) == self._unseen:
            raise NoObjectFound("nothing can be seen")
        engine = self._block if is_plain else self._relief
        state = engine.sample(image, parameters, seed, progress)
        return State(state.engine, state.arrays, {**state.notes, "studio": "block" if is_plain else "relief"})

    def decode(self, state: State, progress: Progress) -> Surface:
        """By the engine that sampled it."""
        return (self._block if "colour" in state.arrays else self._relief).decode(state, progress)


def a_plain_picture(red: int, green: int, blue: int) -> np.ndarray:
    """uint8 [64, 64, 4]: a square of one colour on nothing."""
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[12:52, 12:52] = (red, green, blue, 255)
    return picture
