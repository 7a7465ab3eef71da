"""The doctor looks at everything in order, and says of each gap what mends it."""

import httpx

from infra.doctor import Check, Lacking, examine, licence_checks
from infra.weights import Hub, Source


def fine() -> None:
    """As it must be."""


def gone() -> None:
    """Not as it must be."""
    raise Lacking("it is gone")


def told(*groups: list[Check]) -> tuple[bool, list[str]]:
    """The verdict, and what was said."""
    lines: list[str] = []
    return examine(groups, lines.append), lines


def test_all_is_well_only_if_every_check_passes() -> None:
    """A line for each."""
    assert told([Check("a", fine, "")], [Check("b", fine, "")]) == (True, ["ok     a", "ok     b"])


def test_a_gap_comes_with_its_reason_and_its_command() -> None:
    """So that it can be mended without a manual."""
    is_well, (line,) = told([Check("token", gone, "modal token new")])
    assert (is_well, line) == (False, "lacks  token: it is gone\n       modal token new")


def test_a_gap_hides_what_rests_on_it_and_nothing_else() -> None:
    """Nobody is told of a bucket's limits who cannot reach the bucket; but all the models are looked at."""
    _, lines = told([Check("a", gone, ""), Check("on a", fine, "")], [Check("b", fine, "")])
    assert [line.split(":")[0] for line in lines] == ["lacks  a", "ok     b"]


def test_a_service_that_does_not_answer_is_a_gap_not_a_crash() -> None:
    """Whatever breaks on the way is said."""

    def silent() -> None:
        raise httpx.ConnectError("nobody there")

    assert told([Check("hub", silent, "")])[0] is False


def test_a_model_is_open_to_whoever_accepted_its_licence() -> None:
    """403 before, 200 after."""
    source = Source("maker/model", "c0ffee", ("config.json",), is_gated=True)
    for status, is_well in ((200, True), (403, False)):
        hub = Hub("hf_x", transport=httpx.MockTransport(lambda _, status=status: httpx.Response(status)))
        assert told(*licence_checks(hub, [source]))[0] is is_well
