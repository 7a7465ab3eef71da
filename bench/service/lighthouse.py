"""python -m bench.service.lighthouse measures the page with Lighthouse.

It runs `trellis2 serve` on loopback, Lighthouse's two presets and the system's Chromium. npm installs Lighthouse into
`bench/node` the first time. There is no peer; the goal is 95 of 100 for each score of the start page. The model is
rendered without a GPU here, so its performance score shows software rendering.
"""

import json
import os
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

from bench.service.end_to_end import SAMPLE, generate
from bench.support.processes import run_service

PACKAGES = Path("bench/node").resolve()
LIGHTHOUSE = PACKAGES / "node_modules/.bin/lighthouse"
GOAL = 95
REPEATS = 3
PRESETS: dict[str, tuple[str, ...]] = {"mobile": (), "desktop": ("--preset=desktop",)}
SCORES = ("performance", "accessibility", "best-practices")
TIMES = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time")
CHROME = "--headless=new --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader"


def main() -> None:
    """Measure each view and preset and print a row for it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    npm = shutil.which("npm")
    if chromium is None or npm is None:
        print("not measured: Chromium or npm is missing; tests/install-peers installs both")
        return
    if not LIGHTHOUSE.exists():
        subprocess.run([npm, "ci", "--prefix", str(PACKAGES), "--silent"], check=True)
    with run_service("lighthouse-") as url:
        _, job = generate(url, SAMPLE, "web")
        print(f"median of {REPEATS}; goal: {GOAL} each for the start page, `empty`")
        heads = "".join(f"{name:>16}" for name in SCORES)
        print(f"{'view':<8}{'preset':<9}{heads}  first / largest paint / blocked, ms")
        for view, path in {"empty": "/", "model": f"/#/jobs/{job['id']}"}.items():
            for preset, options in PRESETS.items():
                reports = [_run_lighthouse(chromium, url + path, *options) for _ in range(REPEATS)]
                print(f"{view:<8}{preset:<9}{_format_row(reports)}", flush=True)


def _run_lighthouse(chromium: str, url: str, *options: str) -> dict[str, Any]:
    flags = ["--quiet", "--output=json", "--no-enable-error-reporting", f"--only-categories={','.join(SCORES)}"]
    done = subprocess.run(
        [str(LIGHTHOUSE), url, *flags, *options, f"--chrome-flags={CHROME}"],
        env={**os.environ, "CHROME_PATH": chromium},
        stdout=subprocess.PIPE,
        check=True,
        timeout=180,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _format_row(reports: list[dict[str, Any]]) -> str:
    scores = [statistics.median(report["categories"][name]["score"] * 100 for report in reports) for name in SCORES]
    times_ms = [statistics.median(report["audits"][name]["numericValue"] for report in reports) for name in TIMES]
    return "".join(f"{score:>16.0f}" for score in scores) + "  " + " / ".join(f"{time:.0f}" for time in times_ms)


if __name__ == "__main__":
    main()
