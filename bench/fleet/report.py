"""A day of traffic on fleets of four sizes, by a virtual clock: `python -m bench.fleet.report`.

See `bench.fleet.simulation` for what is real and what is played. No peer plays this.

At the end: where the first limits lie, of the settings and of the design.

Beside the catalog: how long interactive jobs of another caller wait while its rows wait, the first minute of cold
starts and those behind another interactive job apart. The bound is one job's length and 5 s.
"""

import argparse
import statistics
import time

from bench.fleet.simulation import READS_PER_S, Day, Seen, Simulation
from infra.modal_app.queue import PARTITION_ITEMS
from shared.domain.job import Lane

FLEETS = (1, 8, 64, 512)


def row(workers: int, day: Day, seen: Seen) -> str:
    """One fleet's line."""
    waits = "  ".join(f"{_shown(seen.waits[lane]):>13}" for lane in Lane)
    catalog = f"{(seen.catalog_done_at / 3_600 - day.catalog_at_h):6.1f} h" if seen.catalog_done_at else "  not yet"
    use = seen.gpu_s / seen.container_s
    usd = seen.container_s * day.usd_per_s / seen.done
    beside, bound_s = seen.beside_catalog, day.sample_s + day.extract_s + 5
    return (
        f"{workers:7} {seen.done:7} {waits} {catalog:>9} {use:7.0%} {seen.cold_starts:6} {usd:9.4f} "
        f"{seen.requests['job'] / seen.done:8.1f} {seen.requests['sweep'] / seen.done:9.1f} {seen.most_open:9}\n"
        f"{'':7} beside the catalog: {len(beside)} interactive jobs waited {_shown(beside)} s, "
        f"{max(beside, default=0):.0f} s at most (bound {bound_s:g} s, {sum(one > bound_s for one in beside)} over it)"
    )


def limits(day: Day) -> str:
    """Where more workers, or a longer backlog, would gain nothing; the lowest first."""
    jobs_per_minute = 60 / day.sample_s  # of one worker
    return (
        "first limits: of the settings, a window of "
        f"{day.window} rows, fed once a minute, keeps {day.window / jobs_per_minute:.0f} workers busy with a catalog;\n"
        f"of the design, one wave of a lane holds {PARTITION_ITEMS} ids and is filled by each sweep: "
        f"{PARTITION_ITEMS / jobs_per_minute:.0f} workers;\n"
        f"then a sweep reads {READS_PER_S * 60} unfinished jobs in its minute, at {READS_PER_S} a second"
    )


def _shown(waits: list[float]) -> str:
    if len(waits) < 2:
        return "-"
    return f"{statistics.median(waits):.0f} / {statistics.quantiles(waits, n=20)[-1]:.0f}"


def main() -> None:
    """Print a line for each fleet."""
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
        f"{'GPU use':>7} {'cold':>6} {'USD/asset':>9} {'req./job':>8} {'sweep/job':>9} {'most open':>9}"
    )
    for workers in arguments.workers:
        began = time.monotonic()
        print(row(workers, day, Simulation(day, workers).run()), f"  ({time.monotonic() - began:.0f} s)", flush=True)
    print(limits(day))


if __name__ == "__main__":
    main()
