"""Which steps are run, which recorded, and which replayed."""

import gc
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worker.engines.trellis.sampling.cuda_graphs import GraphReplay, Pool

X, MODULATION, POOL = torch.zeros(2, 3), torch.ones(1), (0, 1)
GUIDED, UNGUIDED = True, False


class _Velocity:
    """Counts how often it ran."""

    def __init__(self) -> None:
        self.ran: list[bool] = []

    def __call__(self, x: Tensor, modulation: Tensor, *, guided: bool) -> Tensor:
        self.ran.append(guided)
        return x + modulation + guided


class _Recorder:
    """Captures by running once, as a GPU does, and replays without running; fails if configured to."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.replays = 0

    def __call__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor], pool: Pool) -> Callable[..., Tensor]:
        assert pool == POOL
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        output = function(*inputs)

        def replay(*_: Tensor) -> Tensor:
            self.replays += 1
            return output

        return replay


def test_each_kind_of_step_is_run_once_then_captured_then_replayed() -> None:
    """What libraries make at first use is there before anything is recorded."""
    velocity, recorder = _Velocity(), _Recorder()
    replayed = GraphReplay(velocity, POOL, recorder)
    for guided in (GUIDED, GUIDED, GUIDED, UNGUIDED, UNGUIDED, GUIDED):
        assert torch.equal(X + MODULATION + guided, replayed(X, MODULATION, guided=guided))
    assert [GUIDED, GUIDED, UNGUIDED, UNGUIDED] == velocity.ran
    assert recorder.replays == 4


def test_steps_go_on_where_recording_needs_too_much_memory() -> None:
    """It is tried once for each kind."""
    velocity = _Velocity()
    replayed = GraphReplay(velocity, POOL, _Recorder(full=True))
    for _ in range(4):
        assert torch.equal(X + MODULATION + 1, replayed(X, MODULATION, guided=GUIDED))
    assert [GUIDED] * 4 == velocity.ran


def test_recordings_go_with_their_stage() -> None:
    """At once, without waiting for the garbage collector: they hold the image's keys and values."""
    velocity = _Velocity()
    replayed = GraphReplay(velocity, POOL, _Recorder())
    for _ in range(3):
        replayed(X, MODULATION, guided=GUIDED)
    gone = weakref.ref(velocity)
    gc.disable()
    try:
        del velocity, replayed
        assert gone() is None
    finally:
        gc.enable()
