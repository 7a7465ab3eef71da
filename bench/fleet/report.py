"""python -m bench.fleet.report simulates a day of traffic on fleets of four sizes, with a virtual clock.

`bench.fleet.simulation` says which parts are real and which are simulated. There is no peer.

"During the catalog" counts interactive jobs of another caller while rows of the catalog wait. It leaves out the first
minute of cold starts and jobs behind another interactive job. The bound is the length of one job plus 5 s.

The last lines give the first limits of the settings and of the design.
"""

import argparse
import statistics
import time

from bench.fleet.simulation import READS_PER_S, Day, DayReport, Simulation
from infra.modal_app.queue import PARTITION_ITEMS
from shared.domain.job import Lane

FLEETS = (1, 8, 64, 512)


def format_row(workers: int, day: Day, report: DayReport) -> str:
    """Format the results of one fleet."""
    waits = "  ".join(f"{_format_waits(report.waits[lane]):>13}" for lane in Lane)
    catalog = f"{(report.catalog_done_at / 3_600 - day.catalog_at_h):6.1f} h" if report.catalog_done_at else "  not yet"
    use = report.gpu_s / report.container_s
    usd = report.container_s * day.usd_per_s / report.finished
    waits_s, bound_s = report.catalog_waits, day.sample_s + day.extract_s + 5
    return (
        f"{workers:7} {report.finished:7} {waits} {catalog:>9} {use:7.0%} {report.cold_starts:6} {usd:9.4f} "
        f"{report.requests['job'] / report.finished:8.1f} {report.requests['reconciler'] / report.finished:9.1f} "
        f"{report.max_pending:9}\n"
        f"{'':7} during the catalog: {len(waits_s)} interactive jobs waited {_format_waits(waits_s)} s, "
        f"{max(waits_s, default=0):.0f} s at most "
        f"(bound {bound_s:g} s, {sum(wait > bound_s for wait in waits_s)} over it)"
    )


def format_limits(day: Day) -> str:
    """Compute where more workers or a longer backlog gain nothing, the lowest limit first."""
    jobs_per_minute = 60 / day.sample_s  # of one worker
    return (
        "first limits: of the settings, a window of "
        f"{day.window} rows, filled up once a minute, "
        f"keeps {day.window / jobs_per_minute:.0f} workers busy with a catalog;\n"
        f"of the design, one priority tier of a lane holds {PARTITION_ITEMS} ids, "
        f"and the reconciler fills it once a minute: "
        f"{PARTITION_ITEMS / jobs_per_minute:.0f} workers;\n"
        f"then the reconciler reads {READS_PER_S * 60} unfinished jobs in its minute, at {READS_PER_S} a second"
    )


def _format_waits(waits: list[float]) -> str:
    if len(waits) < 2:
        return "-"
    return f"{statistics.median(waits):.0f} / {statistics.quantiles(waits, n=20)[-1]:.0f}"


def main() -> None:
    """Simulate each fleet size and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=FLEETS)
    parser.add_argument("--rows", type=int, default=Day.catalog_rows)
    parser.add_argument("--window", type=int, default=Day.window)
    parser.add_argument("--sample-s", type=float, default=Day.sample_s)
    parser.add_argument("--extract-s", type=float, default=Day.extract_s)
    parser.add_argument("--cold-s", type=float, default=Day.cold_s)
    arguments = parser.parse_args()
    day = Day(
        catalog_rows=arguments.rows,
        window=arguments.window,
        sample_s=arguments.sample_s,
        extract_s=arguments.extract_s,
        cold_s=arguments.cold_s,
    )
    print(
        f"{day.singles_per_hour:g} interactive an hour, bursts of 150 at 9, 13, 19 h, {day.catalog_rows} rows at 10 h;"
    )
    print(f"sampling {day.sample_s:g} s, extraction {day.extract_s:g} s, cold start {day.cold_s:g} s, {day.gpu}")
    print("waits: median / 95th percentile, s")
    print(
        f"{'workers':>7} {'jobs':>7} {'interactive':>13}  {'standard':>13}  {'batch':>13} {'catalog':>9} "
        f"{'GPU use':>7} {'cold':>6} {'USD/asset':>9} {'req./job':>8} {'rec./job':>9} {'max open':>9}"
    )
    for workers in arguments.workers:
        began = time.monotonic()
        print(
            format_row(workers, day, Simulation(day, workers).run()),
            f"  ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    print(format_limits(day))


if __name__ == "__main__":
    main()
