"""The line of unfinished jobs as one sweep has read it: whom to ring for, and in which wave."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from shared.domain.fair_queuing import tier_of
from shared.domain.job import Job, Lane, Status


@dataclass(slots=True)
class Backlog:
    """Unfinished jobs, added lane by lane, the oldest first. slots: of each running job, None where it needs none."""

    slots: dict[str, str | None] = field(default_factory=dict)
    _ahead: Counter[tuple[str, Lane]] = field(default_factory=Counter)
    _running: Counter[str] = field(default_factory=Counter)
    _due: list[tuple[Job, int]] = field(default_factory=list)

    def add(self, job: Job, *, is_due: bool) -> None:
        """Note a job; `is_due` where it should be rung for if it waits."""
        place = self._ahead[job.caller, job.lane]
        self._ahead[job.caller, job.lane] += 1
        if job.status is Status.RUNNING:
            self.slots[job.id] = job.slot
            self._running[job.caller] += 1
        elif is_due:
            self._due.append((job, place))

    def due(self) -> dict[tuple[Lane, int], list[str]]:
        """The ids to ring for, by lane and wave; of a caller whose running jobs are bounded, as many as may run."""
        rung: dict[tuple[Lane, int], list[str]] = defaultdict(list)
        begun = Counter(self._running)
        for job, place in sorted(self._due, key=lambda one: list(Lane).index(one[0].lane)):
            if job.running_limit is None or begun[job.caller] < job.running_limit:
                begun[job.caller] += 1
                rung[job.lane, tier_of(place)].append(job.id)
        return rung
