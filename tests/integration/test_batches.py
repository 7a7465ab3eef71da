"""Batches through HTTP: a catalog goes in, assets come out."""

import csv
import io
import json
import zipfile
from typing import Any

import pytest

from api.middleware.body_limit import RequestLimits
from bench.support.memory_store import MemoryStore
from shared.repositories.outbox import Outbox
from shared.storage import keys
from tests.support.batch_harness import BatchHarness, images, table, zipped
from tests.support.gateway_harness import IMAGE, build_gateway

SHOPIFY = (
    b"Handle,Title,Body (HTML),Variant SKU,Image Src,Image Position\r\n"
    b'mug,Mug,"<p>A mug,\r\nblue</p>",MUG-7,mug-side.png,2\r\n'
    b"mug,,,,mug.png,1\r\n"
    b"cup,Cup,,CUP-1,cup.png,1\r\n"
    b"tray,Tray,,TRAY-2,gone.png,1\r\n"
)
ZIP = zipped({"mug.png": IMAGE, "mug-side.png": IMAGE, "cup.png": IMAGE})


class ServiceHarness:
    """A gateway, and a batch harness over the same store."""

    def __init__(self) -> None:
        self.gateway = build_gateway()
        assert isinstance(self.gateway.store, MemoryStore)
        self.batches = BatchHarness(clock=self.gateway.clock, store=self.gateway.store, max_jobs=50)

    def create(self, manifest: bytes = SHOPIFY, zip_: bytes | None = ZIP, **fields: Any) -> dict[str, Any]:
        """Create a batch by a form with both files."""
        files = {"manifest": ("catalog.csv", manifest)} | ({"images": ("images.zip", zip_)} if zip_ else {})
        data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        answer = self.gateway.client.post("/v1/batches", files=files, data=data)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def run(self, rounds: int = 1, **how: Any) -> None:
        """Plan, dispatch and work, so many times."""
        for _ in range(rounds):
            self.batches.scheduler().run_for(0.0)
            self.batches.work(**how)

    def read(self, batch: dict[str, Any], below: str = "") -> Any:
        """Read a route of the batch."""
        answer = self.gateway.client.get(f"/v1/batches/{batch['id']}{below}")
        assert answer.status_code == 200, answer.text
        is_json = answer.headers["content-type"] == "application/json"
        return answer.json() if is_json else answer.content

    def post(self, batch: dict[str, Any], verb: str, **body: Any) -> Any:
        """Change the batch."""
        answer = self.gateway.client.post(f"/v1/batches/{batch['id']}/{verb}", **({"json": body} if body else {}))
        assert answer.status_code in (200, 202), answer.text
        return answer.json()


@pytest.fixture
def service() -> ServiceHarness:
    """A service."""
    return ServiceHarness()


def rows_of(text: bytes) -> list[dict[str, str]]:
    """A CSV as a spreadsheet reads it."""
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


def test_a_catalog_is_planned_confirmed_and_run(service: ServiceHarness) -> None:
    """It waits for a confirmation with its counts; then every valid row becomes an asset under its SKU."""
    batch = service.create(preset="mobile")
    assert batch["status"] == "planning"
    service.run()
    planned = service.read(batch)
    assert planned["status"] == "awaiting_confirmation"
    assert {name: planned["plan"][name] for name in ("rows", "invalid", "reused", "to_run")} == {
        "rows": 3, "invalid": 1, "reused": 0, "to_run": 2
    }  # fmt: skip
    service.run()
    assert service.read(batch)["counts"]["queued"] == 2
    service.post(batch, "confirm")
    service.run(2)
    ended = service.read(batch)
    assert ended["status"] == "completed"
    assert (ended["counts"]["succeeded"], ended["counts"]["failed"]) == (2, 1)
    jobs = service.gateway.client.get(f"/v1/jobs?batch={batch['id']}").json()["data"]
    assert {job["custom_id"] for job in jobs} == {"MUG-7", "CUP-1"}


def test_a_batch_runs_at_once_where_no_yes_is_wanted(service: ServiceHarness) -> None:
    """`confirm: false`."""
    batch = service.create(confirm=False)
    service.run(3)
    assert service.read(batch)["status"] == "completed"


def test_fault_25_results_are_there_at_any_time(service: ServiceHarness) -> None:
    """For every row, good or bad: the catalog's own columns, and ours."""
    batch = service.create(confirm=False, seed=5)
    service.run()
    assert [row["status"] for row in rows_of(service.read(batch, "/results.csv"))] == ["queued", "queued", "failed"]
    service.run(2)
    found = rows_of(service.read(batch, "/results.csv"))
    assert [row["Variant SKU"] for row in found] == ["MUG-7", "CUP-1", "TRAY-2"]
    assert [row["status"] for row in found] == ["succeeded", "succeeded", "failed"]
    assert found[0]["Body (HTML)"] == "<p>A mug,\r\nblue</p>"
    assert found[0]["model_url"].endswith("/artifacts/model")
    assert (found[0]["model_bytes"], found[0]["seed"], found[0]["valid"]) == ("10", "5", "true")
    assert (found[2]["error_code"], found[2]["error_line"], found[2]["error_column"]) == ("image_missing", "6", "5")
    lines = [json.loads(line) for line in service.read(batch, "/results.jsonl").splitlines()]
    assert [line["status"] for line in lines] == ["succeeded", "succeeded", "failed"]
    errors = rows_of(service.read(batch, "/errors.csv"))
    assert [(error["line"], error["column"], error["code"]) for error in errors] == [("6", "5", "image_missing")]


def test_results_come_as_one_zip_by_sku(service: ServiceHarness) -> None:
    """With the report; nothing of it was ever whole in memory."""
    batch = service.create(confirm=False)
    service.run(3)
    for job in service.gateway.client.get(f"/v1/jobs?batch={batch['id']}").json()["data"]:
        service.gateway.store.put(
            service.gateway.job(job["id"]).artifacts["model"].key, job["custom_id"].ljust(10).encode()
        )
    with zipfile.ZipFile(io.BytesIO(service.read(batch, "/results.zip"))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["models/CUP-1.glb", "models/MUG-7.glb", "results.csv"]
        assert archive.read("models/MUG-7.glb") == b"MUG-7     "
        assert len(rows_of(archive.read("results.csv"))) == 3


def test_rows_are_listed_by_pages_and_by_how_they_stand(service: ServiceHarness) -> None:
    """In the catalog's order."""
    batch = service.create(table(7), images(7), confirm=False)
    service.run()
    first = service.read(batch, "/items?limit=3")
    second = service.read(batch, f"/items?limit=5&after={first['next_cursor']}")
    assert [row["row"] for row in first["data"] + second["data"]] == list(range(7))
    assert second["next_cursor"] is None
    service.run(1, most=2)
    assert len(service.read(batch, "/items?status=succeeded")["data"]) == 2


def test_batches_are_listed_by_pages_newest_first(service: ServiceHarness) -> None:
    """Each with its counts, and none of another caller's."""
    service.batches.stored(table(1), images(1), caller="mallory")
    made = []
    for rows in (1, 2, 3):
        service.gateway.clock.advance(1)
        made.append(service.create(table(rows), images(rows))["id"])
    service.run(3)
    first = service.gateway.client.get("/v1/batches?limit=2").json()
    second = service.gateway.client.get(f"/v1/batches?limit=2&after={first['next_cursor']}").json()
    assert [batch["id"] for batch in first["data"] + second["data"]] == made[::-1]
    assert [batch["counts"]["total"] for batch in first["data"]] == [3, 2]
    assert second["next_cursor"] is None


def test_a_batch_can_be_paused_resumed_canceled_and_retried(service: ServiceHarness) -> None:
    """And says so."""
    service.batches.max_jobs = 2
    batch = service.create(table(9), images(9), confirm=False)
    service.run(2)
    assert service.post(batch, "pause")["status"] == "paused"
    service.run(2)
    assert service.read(batch)["counts"]["succeeded"] == 2
    assert service.post(batch, "resume")["status"] == "running"
    service.run(1)
    assert service.post(batch, "cancel")["status"] == "ending"
    service.run(2)
    ended = service.read(batch)
    assert (ended["status"], ended["stop_reason"]) == ("canceled", "canceled")
    assert ended["counts"]["succeeded"] + ended["counts"]["canceled"] == 9
    assert service.post(batch, "retry", max_cost_usd=10.0)["counts"]["queued"] == ended["counts"]["canceled"]
    service.run(9)
    assert service.read(batch)["counts"]["succeeded"] == 9


def test_a_manifest_may_be_json_lines_with_uploaded_images(service: ServiceHarness) -> None:
    """One object a line; parameters next to the image."""
    upload = service.gateway.uploaded()
    line = {"custom_id": "A", "image": {"upload_id": upload}, "seed": 3, "width_cm": 20}
    answer = service.gateway.client.post(
        "/v1/batches", json={"manifest": {"data": json.dumps(line)}, "preset": "game", "confirm": False}
    )
    batch = answer.json()
    service.run()
    service.gateway.store.delete(keys.upload("local", upload))  # as after a day
    service.run(2)
    (row,) = service.read(batch, "/items")["data"]
    assert (row["status"], row["seed"], row["preset"]) == ("succeeded", 3, "game")
    job = service.gateway.job(row["job_id"])
    assert service.gateway.store.get(job.input.key or "").body == IMAGE
    assert job.parameters.dimensions_m
    assert job.parameters.dimensions_m.width == pytest.approx(0.2)


def test_a_manifest_may_be_an_upload(service: ServiceHarness) -> None:
    """Of its own purpose, for more than fits into a request."""
    slot = service.gateway.client.post("/v1/uploads", json={"purpose": "manifest"}).json()
    assert slot["max_bytes"] == 200_000_000
    service.gateway.store.put(keys.upload("local", slot["upload_id"]), table(3))
    zip_id = service.gateway.uploaded(images(3))
    body = {"manifest": {"upload_id": slot["upload_id"]}, "images": {"upload_id": zip_id}, "confirm": False}
    batch = service.gateway.client.post("/v1/batches", json=body).json()
    service.run(3)
    assert service.read(batch)["counts"]["succeeded"] == 3


def test_a_signed_form_may_be_as_large_as_what_it_was_signed_for() -> None:
    """Where the gateway takes it itself: a zip of 4 GB, which needs its time; the form says how large it may be."""
    limits, form = RequestLimits(), [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"path": "/v1/files", "headers": form}
    assert (limits.max_bytes(scope), limits.max_seconds(scope)) == (4_001_000_000, 3_600.0)
    scope = {"path": "/v1/jobs", "headers": form}
    assert (limits.max_bytes(scope), limits.max_seconds(scope)) == (21_000_000, 120.0)


def test_a_zip_of_images_is_a_catalog(service: ServiceHarness) -> None:
    """Each is a row named by its file."""
    answer = service.gateway.client.post(
        "/v1/batches", files={"images": ("p.zip", images(3))}, data={"confirm": "false"}
    )
    service.run(3)
    rows = service.read(answer.json(), "/items")["data"]
    assert [row["custom_id"] for row in rows] == ["SKU-0", "SKU-1", "SKU-2"]
    assert {row["status"] for row in rows} == {"succeeded"}


def test_equal_batches_under_one_key_are_one_batch(service: ServiceHarness) -> None:
    """And another payload under it is refused."""
    headers = {"Idempotency-Key": "autumn"}

    def create(manifest: bytes) -> Any:
        return service.gateway.client.post("/v1/batches", files={"manifest": ("c.csv", manifest)}, headers=headers)

    first, again, other = create(table(2)), create(table(2)), create(table(3))
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(service.gateway.client.get("/v1/batches").json()["data"]) == 1


@pytest.mark.parametrize(
    ("manifest", "detail"),
    [
        (b"title,price\r\nMug,7\r\n", "no column has ids"),
        ("sku,image\n".encode("utf-16"), "UTF-16"),
        (b"sku,image\r\n", "no rows"),
    ],
)
def test_an_unreadable_manifest_fails_and_says_why(service: ServiceHarness, manifest: bytes, detail: str) -> None:
    """With what to do about it."""
    batch = service.create(manifest, None)
    service.run()
    failed = service.read(batch)
    assert failed["status"] == "failed"
    assert detail in failed["error"]["detail"]


def test_another_callers_batch_looks_like_none(service: ServiceHarness) -> None:
    """On every route."""
    batch = service.batches.stored(table(1), images(1), caller="mallory")
    routes = [("GET", ""), ("GET", "/items"), ("GET", "/results.csv"), ("POST", "/confirm"), ("POST", "/cancel")]
    for method, below in routes:
        answer = service.gateway.client.many((method, f"/v1/batches/{batch.id}{below}", {}))[0]
        assert (answer.status_code, answer.json()["code"]) == (404, "batch_not_found")


def test_a_batchs_job_is_retried_only_with_its_batch(service: ServiceHarness) -> None:
    """Else the counts would not know."""
    batch = service.create(confirm=False)
    service.run(1, fails=True)
    job = service.gateway.client.get(f"/v1/jobs?batch={batch['id']}").json()
    service.run(1, fails=True)
    job = service.gateway.client.get(f"/v1/jobs?batch={batch['id']}").json()["data"][0]
    assert service.gateway.client.post(f"/v1/jobs/{job['id']}/retry").status_code == 409


def test_a_batch_tells_when_it_waits_for_a_yes_and_when_it_has_ended(service: ServiceHarness) -> None:
    """Once each, to the URL that it names and to every endpoint, under ids of their own."""
    service.gateway.client.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.com/all"})
    webhook = {"url": "https://hooks.example.com/3d", "events": ["batch.awaiting_confirmation", "batch.completed"]}
    batch = service.create(table(3), images(3), webhook=webhook)
    service.run(3)
    outbox = Outbox(service.gateway.store)
    service.gateway.clock.advance(1)

    def sent() -> list[tuple[str, str]]:
        due = outbox.due(service.gateway.clock())
        return sorted((outbox.read(entry).type, entry.target.partition("_")[0]) for entry in due)

    assert sent() == [("batch.awaiting_confirmation", "every"), ("batch.awaiting_confirmation", "url")]
    service.post(batch, "confirm")
    service.run(4)
    of_batch = [event for event in sent() if event[0].startswith("batch.")]
    assert of_batch == [
        ("batch.awaiting_confirmation", "every"),
        ("batch.awaiting_confirmation", "url"),
        ("batch.completed", "every"),
        ("batch.completed", "url"),
    ]
    assert [event for event in sent() if event[0].startswith("job.")] == [("job.succeeded", "every")] * 3


def test_a_row_tells_of_its_end_where_the_batch_asks_for_that(service: ServiceHarness) -> None:
    """With `job.*` among the events."""
    webhook = {"url": "https://hooks.example.com/3d", "events": ["job.succeeded"]}
    service.create(table(2), images(2), webhook=webhook, confirm=False)
    service.run(3)
    service.gateway.clock.advance(1)
    outbox = Outbox(service.gateway.store)
    assert [outbox.read(entry).type for entry in outbox.due(service.gateway.clock())] == ["job.succeeded"] * 2
