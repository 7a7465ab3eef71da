"""`trellis2 batch`: a catalog in, confirmation, assets named by id out."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from trellis2_modal.cli import run
from trellis2_modal.cli.context import Session

from tests.unit.client.scripted_transport import GLB, Script

COUNTS = {"total": 3, "queued": 2, "running": 0, "succeeded": 0, "failed": 1, "canceled": 0, "skipped": 0}
PLAN = {"rows": 3, "invalid": 1, "reused": 0, "to_run": 2, "gpu_seconds": 60.0, "cost_usd": 0.05, "seconds": 120.0}
ERROR = {"line": 4, "column": 2, "code": "image_missing", "detail": "the row has no image"}
SHA256 = hashlib.sha256(GLB).hexdigest()


def batch(status: str, **fields: Any) -> httpx.Response:
    """A response with a batch."""
    body = {"id": "batch_1", "status": status, "created_at": "2026-01-01T00:00:00Z", "counts": COUNTS, **fields}
    return httpx.Response(200, json=body)


def planned() -> httpx.Response:
    """A batch that waits for confirmation."""
    return batch("awaiting_confirmation", plan=PLAN)


def completed(**counts: int) -> httpx.Response:
    """A batch that has ended."""
    return batch("completed", plan=PLAN, counts=COUNTS | {"queued": 0, "succeeded": 2, "failed": 1} | counts)


def results(*rows: dict[str, Any]) -> httpx.Response:
    """A response with rows, one a line."""
    return httpx.Response(200, text="".join(json.dumps(row) + "\n" for row in rows))


INVALID = {"custom_id": "C", "status": "failed", "line": 4, "errors": [ERROR]}
MUG = {
    "custom_id": "Mug/7",
    "status": "succeeded",
    "line": 2,
    "job_id": "job_7",
    "artifacts": {"model": {"url": "u", "bytes": len(GLB), "sha256": SHA256}},
}


@dataclass
class Shell:
    """A command line over a scripted service, with `typed` as the user's input."""

    answers: list[Any]
    typed: str | None = None
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.script = Script(self.answers)

    def run(self, *argv: str) -> int:
        """Run `trellis2 batch ...`."""
        session = Session(
            {"TRELLIS2_URL": "https://3d.example.com"},
            self.out,
            self.err,
            lambda: 80,
            clock=self.script.clock,
            pause=self.script.pause,
            transport=self.script.transport,
            answers=None if self.typed is None else io.StringIO(self.typed),
        )
        return run(["batch", *argv], session, [])


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("catalog.csv").write_text("sku,image\nA,u\nB,u\nC,\n")
    return "catalog.csv"


def test_run_shows_the_plan_asks_for_confirmation_and_follows(catalog: str) -> None:
    """The plan has counts, estimate and invalid rows; then the counts by status follow."""
    shell = Shell([batch("planning"), planned(), results(INVALID), batch("running"), completed()], typed="y\n")
    assert shell.run("run", catalog, "--preset", "shopify", "--max-cost", "50") == 1  # a row has failed
    errors = shell.err.getvalue()
    assert "3 rows, 2 to run, 0 reused, 1 invalid" in errors
    assert "estimate: about 2 min, 60 s of GPU time, $0.05" in errors
    assert "line 4, column 2: the row has no image" in errors
    assert "Run 2 rows? [y/N]" in errors
    assert "completed: 2 succeeded, 1 failed of 3" in shell.out.getvalue()
    sent = shell.script.requests[0].content.decode()
    assert 'name="preset"\r\n\r\nshopify' in sent
    assert 'name="max_cost_usd"\r\n\r\n50.0' in sent
    assert 'filename="catalog.csv"' in sent
    assert [line.partition(" ")[2].rpartition("/")[2] for line in shell.script.lines if "POST" in line] == [
        "batches",
        "confirm",
    ]


def test_without_a_yes_the_batch_stays_unconfirmed(catalog: str) -> None:
    """Exit code 4."""
    shell = Shell([planned(), results(INVALID)], typed="\n")
    assert shell.run("run", catalog) == 4
    assert not any("confirm" in line for line in shell.script.lines)


def test_without_a_terminal_the_batch_waits(catalog: str) -> None:
    """The message names the command that confirms it."""
    shell = Shell([planned(), results(INVALID)])
    assert shell.run("run", catalog) == 0
    assert "trellis2 batch confirm batch_1" in shell.err.getvalue()


def test_run_saves_assets_by_id_and_reports(catalog: str) -> None:
    """Checked by sha256; unsafe characters of an id are replaced."""
    located = httpx.Response(307, headers={"Location": "https://store.example.com/x"})
    files = [httpx.Response(200, text=f"{name}\n") for name in ("results", "errors")]
    shell = Shell(
        [planned(), results(INVALID), batch("running"), completed(failed=0), results(MUG, INVALID), located,
         httpx.Response(200, content=GLB), *files]
    )  # fmt: skip
    assert shell.run("run", catalog, "--yes", "-o", "assets") == 0
    assert Path("assets/Mug_7.glb").read_bytes() == GLB
    assert Path("assets/results.csv").read_text() == "results\n"
    assert Path("assets/errors.csv").read_text() == "errors\n"


def test_an_asset_that_is_saved_already_is_not_downloaded_again(catalog: str) -> None:  # noqa: ARG001 - the folder
    """Compared by sha256."""
    Path("Mug_7.glb").write_bytes(GLB)
    shell = Shell([completed(), results(MUG), *(httpx.Response(200, text="-") for _ in range(2))])
    assert shell.run("results", "batch_1") == 0
    assert not any("artifacts" in line for line in shell.script.lines)


def test_a_folder_is_sent_as_a_zip(catalog: str) -> None:  # noqa: ARG001 - the folder
    """With its images only."""
    Path("photos").mkdir()
    Path("photos/A.png").write_bytes(b"image")
    Path("photos/notes.txt").write_text("-")
    shell = Shell([batch("failed", error={"code": "manifest_invalid", "detail": "nothing in it"})])
    assert shell.run("run", "photos") == 2
    sent = shell.script.requests[0].content
    packed = sent[sent.index(b"PK\x03\x04") : sent.rindex(b"\r\n--")]
    assert zipfile.ZipFile(io.BytesIO(packed)).namelist() == ["A.png"]
    assert "nothing in it" in shell.err.getvalue()


def test_a_large_catalog_is_uploaded_first(catalog: str) -> None:
    """To the store, with the purpose `manifest`."""
    Path(catalog).write_bytes(b"sku,image\n" + b"A,u\n" * 1_100_000)
    target = {
        "upload_id": "up_1",
        "url": "https://store.example.com/",
        "fields": {"key": "k"},
        "max_bytes": 200_000_000,
    }
    shell = Shell([httpx.Response(201, json=target), httpx.Response(204), planned(), results(INVALID)])
    assert shell.run("run", catalog) == 0
    assert json.loads(shell.script.requests[0].content) == {"purpose": "manifest"}
    assert 'name="manifest"\r\n\r\nup_1' in shell.script.requests[2].content.decode()


def test_operations_take_several_batches(catalog: str) -> None:  # noqa: ARG001 - the folder
    """retry takes new limits."""
    for name in ("confirm", "pause", "resume", "cancel", "retry"):
        shell = Shell([planned(), batch("running"), planned(), batch("running")])
        assert shell.run(name, "batch_1", "batch_2") == 0
        assert [line.rpartition("/")[2] for line in shell.script.lines] == ["batch_1", name, "batch_2", name]
    shell = Shell([completed(), batch("running")])
    assert shell.run("retry", "batch_1", "--max-cost", "9") == 0
    assert json.loads(shell.script.requests[1].content) == {"max_cost_usd": 9.0}


def test_status_and_list_print_one_line_a_batch(catalog: str) -> None:  # noqa: ARG001 - the folder
    """As text, or as JSON."""
    page = httpx.Response(200, json={"data": [json.loads(completed().content)], "next_cursor": None})
    shell = Shell([page])
    assert shell.run("list") == 0
    assert shell.out.getvalue() == "batch_1  completed: 2 succeeded, 1 failed of 3\n"
    shell = Shell([completed()])
    assert shell.run("status", "batch_1", "--json") == 0
    assert json.loads(shell.out.getvalue())["counts"]["total"] == 3
