"""Jobs that share an engine take turns on it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shared.contract import Parameters
from shared.job import Stage
from worker.engine import Picture, State, Surface
from worker.turns import TakingTurns

PICTURE = Picture(np.zeros((1, 1, 4), np.uint8), has_alpha=True)
PATIENCE_S = 10.0


class Crowded:
    """An engine that notes how many were inside it at once, and lets each out when it is told."""

    name = "crowded"

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.entered, self.may_leave = threading.Semaphore(0), threading.Semaphore(0)

    def sample(self, *_: object) -> State:
        """Be inside for a while."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.may_leave.acquire(timeout=PATIENCE_S)
        self.inside -= 1
        return State(self.name, {})

    def surface(self, *_: object) -> Surface:
        """Never asked."""
        raise NotImplementedError


def test_one_job_samples_at_a_time() -> None:
    """The second one enters once the first is out."""
    engine = Crowded()
    shared = TakingTurns(engine)
    assert shared.name == "crowded"
    with ThreadPoolExecutor(2) as jobs:
        for _ in range(2):
            jobs.submit(shared.sample, PICTURE, Parameters(), 1, no_progress)
        assert engine.entered.acquire(timeout=PATIENCE_S)
        assert not engine.entered.acquire(timeout=0.05)
        engine.may_leave.release(2)
    assert engine.most == 1


def no_progress(stage: Stage, fraction: float) -> None:
    """Goes nowhere."""
