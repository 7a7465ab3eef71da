"""Write the golden files again, from the present code: `python -m tests.golden.write`."""

import json

from tests.golden.collect import COLLECTORS
from tests.golden.surfaces import PRESETS, SURFACES, environment, extracted
from tests.golden.test_golden import FOLDER


def main() -> None:
    """Write every file."""
    for name, collect in COLLECTORS.items():
        (FOLDER / name).write_text(collect())
    glbs = {f"{name}, {preset}": extracted(name, preset) for name in SURFACES for preset in PRESETS}
    (FOLDER / "surfaces.json").write_text(json.dumps({"environment": environment(), **glbs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
