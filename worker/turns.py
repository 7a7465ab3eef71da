"""An engine that several jobs share, one at a time."""

import threading
from dataclasses import dataclass, field

from shared.contract import Parameters
from worker.engine import Engine, Picture, Progress, State, Surface


@dataclass(slots=True)
class TakingTurns:
    """An Engine whose GPU belongs to one job at a time: while one samples, another extracts and uploads.

    Waiting for a turn is no stage: it counts for no GPU seconds, and a job that was stopped meanwhile notices it at
    the first report of its turn.
    """

    engine: Engine
    name: str = field(init=False)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Go by the engine's name."""
        self.name = self.engine.name

    def sample(self, picture: Picture, parameters: Parameters, seed: int, progress: Progress) -> State:
        """As the engine, in turn."""
        with self._turn:
            return self.engine.sample(picture, parameters, seed, progress)

    def surface(self, state: State, progress: Progress) -> Surface:
        """As the engine, in turn."""
        with self._turn:
            return self.engine.surface(state, progress)
