"""What the runbook says of costs is what the bench prints."""

from pathlib import Path

from bench.fleet.costs import format_table

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_runbooks_table_of_costs_is_what_stage_times_and_prices_give() -> None:
    """Line by line; a new price or a new measurement changes both."""
    written = OPERATIONS.read_text().splitlines()
    assert [line for line in format_table() if line not in written] == []
