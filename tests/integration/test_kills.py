"""Every accepted job reaches one end, however often its worker dies."""

from collections import Counter

from bench.service.kills import run


def test_every_job_ends_once_while_workers_are_killed_at_random() -> None:
    """Sixty submits from ten clients, a SIGKILL about every second and a half."""
    outcome = run(jobs=60, clients=10, kill_every_s=1.5, work_s=0.03, kill_for_s=8, limit_s=240)
    assert outcome.kills > 0
    assert (outcome.accepted, outcome.statuses) == (60, Counter(succeeded=60))
    assert (outcome.finished_twice, outcome.broken_artifacts) == ([], [])
