"""Checks of a deployment: what must be so, what was found instead, and what mends it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from shared.errors import ServiceError


class CheckFailed(ServiceError):
    """A check that did not pass; the sentence says what was found instead."""

    code = "lacking"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so. look: raises where it is not. mend: the command, or the page, that makes it so."""

    name: str
    look: Callable[[], object]
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look came to. gap: what was found instead, empty where all is well. Made of text: it may travel."""

    name: str
    problem: str = ""
    fix: str = ""


def find(groups: Iterable[Sequence[Check]]) -> Iterator[Finding]:
    """Look at everything, in order. In each group the first gap hides what rests on it."""
    for group in groups:
        for check in group:
            try:
                check.look()
            except (ServiceError, httpx.HTTPError, OSError) as gap:
                yield Finding(check.name, str(gap) or type(gap).__name__, check.fix)
                break
            yield Finding(check.name)


def tell(findings: Iterable[Finding], say: Callable[[str], object]) -> bool:
    """Say what was found, each as it comes; whether all is well."""
    is_well = True
    for finding in findings:
        if finding.problem:
            say(f"lacks  {finding.name}: {finding.problem}\n       {finding.fix}")
            is_well = False
        else:
            say(f"ok     {finding.name}")
    return is_well
