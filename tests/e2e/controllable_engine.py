"""The engine of the page's tests: fast for images of one colour, and tests can hold it or make it fail."""

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

HELD_POLL_S = 0.02
Colour = tuple[int, int, int]


class ControllableEngine:
    """Makes blocks of images of one colour, reliefs of all others."""

    name = "relief"

    def __init__(self) -> None:
        self._relief = Relief()
        self._block = Block()
        self._is_free = threading.Event()
        self._is_free.set()
        self._failing: Colour | None = None

    @contextmanager
    def fail_for(self, colour: Colour) -> Iterator[None]:
        """Find no object in images of one colour until the `with` ends."""
        self._failing = colour
        try:
            yield
        finally:
            self._failing = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold jobs in the stage `shape` until the `with` ends."""
        self._is_free.clear()
        try:
            yield
        finally:
            self._is_free.set()

    def sample(self, image: InputImage, parameters: Parameters, seed: int, progress: Progress) -> State:
        """Sample with either engine; a held job keeps reporting progress, so that a cancel reaches it."""
        if not self._is_free.is_set():
            progress.show_preview(image.rgba)
        while not self._is_free.wait(HELD_POLL_S):
            progress(Stage.SHAPE, 0.5)
        visible = image.rgba[image.rgba[..., 3] > 0]
        is_plain = image.has_alpha and bool((visible == visible[:1]).all()) and len(visible) > 0
        if is_plain and tuple(visible[0, :3]) == self._failing:
            raise NoObjectFound("nothing stands out")
        engine = self._block if is_plain else self._relief
        state = engine.sample(image, parameters, seed, progress)
        return State(state.engine, state.arrays, {**state.notes, "test_engine": "block" if is_plain else "relief"})

    def decode(self, state: State, progress: Progress) -> Surface:
        """Decode with the engine that sampled the state."""
        return (self._block if "colour" in state.arrays else self._relief).decode(state, progress)


def plain_image(red: int, green: int, blue: int) -> np.ndarray:
    """Make an image of a square of one colour, uint8 [64, 64, 4], on a transparent background."""
    image = np.zeros((64, 64, 4), np.uint8)
    image[12:52, 12:52] = (red, green, blue, 255)
    return image
