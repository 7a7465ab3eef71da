"""Waves: in which order the jobs that one caller has in a lane get their turn among other callers' jobs.

A caller's first unfinished job of a lane is in wave 0, the next seven in wave 1, the next 56 in wave 2, the rest in
wave 3. An earlier wave goes first, whoever's it is. So a caller's n-th job waits for eight times n jobs of each other
caller at most, and a first one for a single job of each, however many the others have submitted before.
"""

from bisect import bisect_right

_BEGINS = (1, 8, 64)  # with how many of the caller's jobs ahead each wave after the first begins
TIERS = len(_BEGINS) + 1


def tier_of(ahead: int) -> int:
    """The wave of a job with so many unfinished jobs of the same caller ahead of it in its lane."""
    return bisect_right(_BEGINS, ahead)
