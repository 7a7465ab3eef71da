"""How many invocations an enqueue spawns."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from infra.modal_app.invocations import LAG_S, SPARE, InvocationSender, ModalCalls

CEILING = 4


@dataclass
class Call:
    """A function of the SDK in its awaitable form."""

    aio: Callable[[], Awaitable[object]]


@dataclass
class Fleet:
    """A worker function with Modal's statistics, a clock, and postponed calls."""

    backlog: int = 0
    num_running_inputs: int = 0
    sent: int = 0
    at_s: float = 0.0
    postponed: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spawn, self.get_current_stats = Call(self._spawn), Call(self._stats)
        self.calls = ModalCalls(monotonic=self.clock)
        self.sender = InvocationSender(
            self, self.calls, ceiling=CEILING, monotonic=self.clock, later=lambda _, act: self.postponed.append(act)
        )

    def clock(self) -> float:
        """Return the seconds."""
        return self.at_s

    async def _spawn(self) -> None:
        self.sent += 1

    async def _stats(self) -> "Fleet":
        return self

    def send(self, count: int, ending: int = 0) -> int:
        """Ask for invocations; return how many were spawned."""
        before = self.sent
        self.sender.spawn(count, self.calls.deadline(), ending=ending)
        return self.sent - before


def test_idle_fleet_gets_an_invocation_for_each_id_up_to_its_ceiling() -> None:
    """And one spare."""
    assert Fleet().send(2) == 2
    assert Fleet().send(100) == CEILING + SPARE


def test_waiting_and_running_inputs_count() -> None:
    """Whichever process spawned them, however long ago."""
    assert Fleet(num_running_inputs=CEILING).send(100) == SPARE
    assert Fleet(backlog=2, num_running_inputs=1).send(100) == CEILING + SPARE - 3
    assert Fleet(backlog=500).send(100) == 0


def test_ending_invocation_makes_room_for_its_successor() -> None:
    """Modal still counts it."""
    full = Fleet(num_running_inputs=CEILING + SPARE)
    assert (full.send(1), full.send(1, ending=1)) == (0, 1)


def test_ending_invocation_fills_the_fleet_after_lost_spawns() -> None:
    """It spawns as many as the fleet has room for, not only its own successor."""
    assert Fleet(num_running_inputs=2).send(10, ending=1) == CEILING + SPARE - 1


def test_spawns_that_modal_does_not_count_yet_are_counted_here() -> None:
    """While its statistics may lag; then they are used."""
    lagging = Fleet()
    assert (lagging.send(100), lagging.send(100)) == (CEILING + SPARE, 0)
    lagging.at_s = LAG_S + 0.1
    assert lagging.send(1) == 1


def test_spawns_withheld_for_the_lag_are_sent_after_it() -> None:
    """By one postponed call, however many enqueues were withheld."""
    lagging = Fleet()
    lagging.send(CEILING + SPARE)
    for _ in range(3):
        lagging.send(1)
    assert len(lagging.postponed) == 1
    lagging.at_s = LAG_S + 0.1
    before = lagging.sent
    lagging.postponed.pop()()
    assert lagging.sent - before == 3


def test_nothing_is_postponed_for_a_fleet_that_is_truly_full() -> None:
    """Its invocations spawn the next ones as they end."""
    full = Fleet(num_running_inputs=CEILING + SPARE)
    full.send(5)
    assert full.postponed == []
