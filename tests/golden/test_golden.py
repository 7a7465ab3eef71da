"""What callers, operators and stored data depend on is what the files here say.

A difference is either a mistake or was made on purpose: then `python -m tests.golden.write` writes the files again, and
the difference is reviewed in the commit. New versions of FastAPI, pydantic or argparse may change the texts, too.
"""

import json
import re
import sys
import warnings
from difflib import unified_diff
from pathlib import Path

import pytest

from tests.golden.collect import COLLECTORS
from tests.golden.surfaces import PRESETS, SURFACES, environment, extracted

FOLDER = Path(__file__).parent
WRITTEN_WITH = (3, 11)  # the Python whose argparse laid out the help
TOLERANCE = 0.05  # of the numbers of a GLB that another environment made


@pytest.mark.parametrize("name", COLLECTORS)
def test_names_and_texts_are_unchanged(name: str) -> None:
    """Each collected text equals the committed one; the help, under another Python, in its words."""
    golden, present = (FOLDER / name).read_text(), COLLECTORS[name]()
    if name == "help.txt" and sys.version_info[:2] != WRITTEN_WITH:
        golden, present = ("\n".join(sorted(set(re.findall(r"[\w-]+", text)))) for text in (golden, present))
    lines = unified_diff(golden.splitlines(), present.splitlines(), f"golden/{name}", "present", n=1, lineterm="")
    if difference := "\n".join(lines):
        pytest.fail(f"{difference}\nMade on purpose? python -m tests.golden.write", pytrace=False)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", SURFACES)
def test_glb_is_unchanged(name: str, preset: str) -> None:
    """The bytes, where they can be compared (see `surfaces`), and numbers about them anywhere."""
    golden = json.loads((FOLDER / "surfaces.json").read_text())
    expected, actual = golden[f"{name}, {preset}"], extracted(name, preset)
    assert actual["numbers"] == pytest.approx(expected["numbers"], rel=TOLERANCE)
    if environment() == golden["environment"]:
        assert actual == expected
    else:
        warnings.warn(f"bytes not compared: from {golden['environment']}; here: {environment()}", stacklevel=1)
