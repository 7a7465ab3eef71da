"""The client and the command line against the real gateway, ledger, queue and worker; only the work is scripted."""

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from trellis2_modal import (
    AsyncClient,
    AsyncJobHandle,
    Client,
    Conflict,
    InputRejected,
    JobCanceled,
    JobFailed,
    NotAllowed,
    NotFound,
    Status,
)
from trellis2_modal._submission import LARGE_BYTES
from trellis2_modal.cli import run
from trellis2_modal.cli.context import Session

from infra.filestore.store import FileStore
from infra.local import Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.domain.job import Artifact, Job, Stage
from shared.errors import NoObjectFound
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import Progress
from worker.runner.job_function import CONTENT_TYPES, JobResult

PATIENCE_S = 30.0


def png(side: int, *, seed: int = 0) -> bytes:
    """A picture of noise, which does not compress: about 3 * side^2 bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


SMALL = png(16)
LARGE = png(1_200)


class ScriptedWork:
    """Work that a job's `custom_id` directs: `held`, `fails once`, or done at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.released = threading.Event()
        self.inputs: dict[str, bytes] = {}

    def __call__(self, job: Job, progress: Progress) -> JobResult:
        if job.input.key:
            self.inputs[job.id] = self._store.get(job.input.key).body
        progress(Stage.SHAPE, 0.5)
        if job.custom_id == "fails once" and job.run_number == 0:
            raise NoObjectFound("nothing in the picture stands out")
        while job.custom_id == "held" and not self.released.wait(0.05):
            progress(Stage.SHAPE, 0.5)
        return JobResult({file.split(".")[0]: self._stored(job, file) for file in CONTENT_TYPES}, {"shape": 1.5})

    def _stored(self, job: Job, filename: str) -> Artifact:
        body = f"{job.id} {filename} ".encode() * 1_000
        key = keys.artifact(job.id, job.attempt, filename)
        self._store.put(key, body)
        return Artifact(
            key=key,
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            content_type=CONTENT_TYPES[filename],
        )


class House:
    """The embedded service in this process."""

    def __init__(self, settings: Settings) -> None:
        store = open_store(settings).inner
        assert isinstance(store, FileStore)
        self.work = ScriptedWork(store)
        self.service = Service(settings, work=self.work)
        self.service.start()

    @property
    def url(self) -> str:
        return self.service.base_url

    def trellis2(self, *argv: str, **environment: str) -> tuple[int, list[Any], str]:
        """Run the command line with --json: exit code, what it printed, its complaints."""
        out, err = io.StringIO(), io.StringIO()
        session = Session({"TRELLIS2_URL": self.url, **environment}, out, err, width=lambda: 80)
        code = run([*argv, "--json"], session, [])
        return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(Settings(host="127.0.0.1", port=0, data_dir=tmp_path_factory.mktemp("service")))
    yield running
    running.service.stop()


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    house.work.released.clear()
    with Client(house.url) as opened:
        yield opened


@pytest.mark.parametrize("picture", [SMALL, LARGE], ids=["by form", "by upload"])
def test_picture_becomes_artifacts_on_disk(picture: bytes, house: House, client: Client, tmp_path: Path) -> None:
    """Submitted either way, the worker sees the picture's very bytes, and the results arrive whole."""
    assert (len(picture) > LARGE_BYTES) == (picture is LARGE)
    handle = client.submit(picture, preset="game", seed=7, texture_size=512, remesh=False, metadata={"sku": "1"})
    record = handle.wait(PATIENCE_S)
    assert house.work.inputs[handle.id] == picture
    assert (record.preset, record.seed, record.metadata) == ("game", 7, {"sku": "1"})
    given = {name: record.parameters[name] for name in ("decimation_target", "texture_size", "remesh")}
    assert given == {"decimation_target": 10_000, "texture_size": 512, "remesh": False}
    assert record.timings == {"shape": 1.5}
    for name, filename in {"model": "model.glb", "poster": "poster.webp", "state": "state.safetensors"}.items():
        saved = handle.download(name, tmp_path / filename)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == record.artifacts[name].sha256


def test_following_shows_each_status_and_the_stage(house: House, client: Client) -> None:
    """Events come while the job runs, not only at its end."""
    seen = []
    for job in client.submit(SMALL, custom_id="held").events():
        seen.append((job.status, job.stage))
        if job.stage == "shape":
            house.work.released.set()
    assert seen[0][0] in (Status.QUEUED, Status.RUNNING)
    assert (Status.RUNNING, "shape") in seen
    assert seen[-1] == (Status.SUCCEEDED, None)


class AnswerLost(httpx.BaseTransport):
    """Carries every request out and loses the answer of the first one."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if self.lost:
            return response
        self.lost += 1
        response.read()
        raise httpx.ReadError("the answer was lost")


def test_lost_answer_makes_no_second_job(house: House) -> None:
    """The gateway made the job, the client heard nothing and asked again: one job."""
    transport = AnswerLost()
    with Client(house.url, transport=transport, pause=lambda _: None) as client:
        before = {handle.id for handle in Client(house.url).list()}
        handle = client.submit(SMALL)
        assert transport.lost == 1
        assert {other.id for other in client.list()} - before == {handle.id}


class Cut(httpx.BaseTransport):
    """Breaks the first `cuts` downloads off, each after `after` bytes; notes what was asked for of each."""

    def __init__(self, cuts: int, after: int) -> None:
        self._inner = httpx.HTTPTransport()
        self._left, self._after = cuts, after
        self.ranges: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if "signature" not in request.url.query.decode():
            return response
        self.ranges.append(request.headers.get("Range"))
        if self._left:
            self._left -= 1
            response.stream = CutBody(response.stream, self._after)
        return response


class CutBody(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, whole: Any, after: int) -> None:
        self._whole, self._after = whole, after

    def __iter__(self) -> Iterator[bytes]:
        yield b"".join(self._whole)[: self._after]
        raise httpx.ReadError("reset")

    def close(self) -> None:
        self._whole.close()


def test_download_goes_on_where_it_broke_off(house: House, client: Client, tmp_path: Path) -> None:
    """The store sends what is missing; the bytes are those of the record."""
    done = client.submit(SMALL)
    done.wait(PATIENCE_S)
    transport = Cut(cuts=2, after=10_000)
    with Client(house.url, transport=transport, pause=lambda _: None) as cut:
        saved = cut.get(done.id).download("model", tmp_path / "model.glb")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == done.job.artifacts["model"].sha256
    assert transport.ranges == [None, "bytes=10000-", "bytes=20000-"]


def test_another_process_goes_on_with_the_events_of_a_job(house: House, client: Client) -> None:
    """After the last one that this one has seen; every event comes once, the end last; then there are no more."""
    handle = client.submit(SMALL, custom_id="held")
    first = []
    for event in handle.stream():
        first.append(event)
        if event.type == "progress":
            break
    house.work.released.set()
    with Client(house.url) as other:
        later = list(other.stream(handle.id, last_event_id=first[-1].id))
        assert list(other.stream(handle.id, last_event_id=later[-1].id)) == []
    ids = [int(event.id) for event in first + later]
    assert ids == sorted(set(ids))
    assert [event.type for event in first][:2] == ["queued", "started"]
    assert (later[-1].type, later[-1].job.status) == ("succeeded", Status.SUCCEEDED)


def test_awaited_client_goes_the_whole_way(house: House, tmp_path: Path) -> None:
    """Several jobs at once over one client: submitted either way, followed, exported, found, fetched."""

    async def made(client: AsyncClient, number: int) -> AsyncJobHandle:
        handle = await client.submit(LARGE if number == 0 else SMALL, seed=number)
        statuses = [snapshot.status async for snapshot in handle.events()]
        assert statuses[-1] is Status.SUCCEEDED
        smaller = await handle.export(preset="mobile")
        record = await smaller.wait(PATIENCE_S)
        saved = await smaller.download("model", tmp_path / f"{number}.glb")
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == record.artifacts["model"].sha256
        return smaller

    async def run() -> None:
        async with AsyncClient(house.url) as client:
            handles = await asyncio.gather(*(made(client, number) for number in range(3)))
            found = {handle.id async for handle in client.list(status="succeeded")}
            assert {handle.id for handle in handles} <= found
            await handles[0].delete()
            with pytest.raises(NotFound):
                await client.wait(handles[0].id)

    asyncio.run(run())


def test_awaited_client_runs_a_catalog(house: House, tmp_path: Path) -> None:
    """A folder of pictures at once, every row fetched by its name."""
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / f"photos/MUG-{number}.png").write_bytes(png(16, seed=number + 50))

    async def run() -> list[str]:
        async with AsyncClient(house.url) as client:
            handle = await client.batch(images=tmp_path / "photos", preset="game", timeout_s=PATIENCE_S)
            rows = [row async for row in handle.rows()]
            for row in rows:
                await handle.download(row, "model", tmp_path / f"{row.custom_id}.glb")
            assert (await handle.save("results.csv", tmp_path / "results.csv")).exists()
            return [f"{row.custom_id} {row.status}" for row in rows]

    assert asyncio.run(run()) == ["MUG-0 succeeded", "MUG-1 succeeded"]
    assert {path.name for path in tmp_path.glob("*.*")} == {"MUG-0.glb", "MUG-1.glb", "results.csv"}


@pytest.mark.parametrize("picture", [SMALL, LARGE], ids=["small", "large"])
def test_key_of_the_callers_own_gives_the_same_job_again(picture: bytes, client: Client) -> None:
    """Another call, and another client, with the same key and payload; another payload is refused."""
    key = f"order-{len(picture)}"
    first = client.submit(picture, idempotency_key=key, seed=1)
    assert client.submit(picture, idempotency_key=key, seed=1).id == first.id
    with pytest.raises(InputRejected) as caught:
        client.submit(picture, idempotency_key=key, seed=2)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("picture", "parameters", "pointer"),
    [
        (b"GIF89a" + bytes(100), {}, "/image"),
        (SMALL, {"decimation_target": 1}, "/decimation_target"),
        (SMALL, {"no_such_parameter": 1}, "/no_such_parameter"),
        ("https://127.0.0.1/mug.png", {}, "/image/url"),
    ],
    ids=["gif", "range", "unknown", "inward url"],
)
def test_bad_input_is_refused_with_its_field(
    picture: bytes | str, parameters: dict[str, Any], pointer: str, client: Client
) -> None:
    """What the caller must change is named."""
    with pytest.raises(InputRejected) as caught:
        client.submit(picture, **parameters)
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_cancel_ends_a_running_job(client: Client) -> None:
    """Canceled at once for the client; canceling again changes nothing."""
    handle = client.submit(SMALL, custom_id="held")
    next(job for job in handle.events() if job.status is Status.RUNNING)
    assert handle.cancel().status is Status.CANCELED
    assert handle.cancel().status is Status.CANCELED
    with pytest.raises(JobCanceled):
        handle.wait(PATIENCE_S)


def test_failed_job_says_why_and_runs_again(client: Client) -> None:
    """The worker's code reaches the client; a retry goes under the same id."""
    handle = client.submit(SMALL, custom_id="fails once")
    with pytest.raises(JobFailed) as caught:
        handle.wait(PATIENCE_S)
    assert caught.value.code == "no_object_found"
    handle.retry()
    assert handle.wait(PATIENCE_S).status is Status.SUCCEEDED
    with pytest.raises(Conflict):
        handle.retry()


def test_export_keeps_the_shape_and_changes_the_options(client: Client) -> None:
    """A job of its own, with the seed of the first."""
    first = client.submit(SMALL, seed=11)
    first.wait(PATIENCE_S)
    other = first.export(preset="mobile", texture_format="webp")
    record = other.wait(PATIENCE_S)
    assert other.id != first.id
    assert (record.seed, record.preset, record.parameters["texture_format"]) == (11, "mobile", "webp")


def test_list_finds_jobs_and_delete_removes_them(client: Client) -> None:
    """Newest first; a deleted job is gone for every question, and deleting it again is no error."""
    older, newer = client.submit(SMALL, seed=1), client.submit(SMALL, seed=2)
    for handle in (older, newer):
        handle.wait(PATIENCE_S)
    found = [handle.id for handle in client.list(status="succeeded")]
    assert found.index(newer.id) < found.index(older.id)
    newer.delete()
    newer.delete()
    assert newer.id not in [handle.id for handle in client.list()]
    with pytest.raises(NotFound):
        client.get(newer.id)


def test_wrong_key_is_not_allowed(house: House) -> None:
    """Known by its class and by its code."""
    with pytest.raises(NotAllowed) as caught, Client(house.url, api_key="t2_nobody_knows") as client:
        client.get("job_1")
    assert caught.value.status == 401


def test_command_line_goes_the_whole_way(house: House, tmp_path: Path) -> None:
    """generate, get, export, jobs, delete: exit code 0 each, files on disk."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    target = tmp_path / "out" / "mug.glb"
    code, [record], complaints = house.trellis2("generate", str(tmp_path / "mug.png"), "-o", str(target), "--seed", "5")
    assert (code, record["status"], record["seed"]) == (0, "succeeded", 5)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == record["artifacts"]["model"]["sha256"]
    assert complaints.splitlines()[-1] == "mug.png: succeeded"
    assert house.trellis2("get", record["id"])[1][0]["id"] == record["id"]
    code, [export], _ = house.trellis2("export", record["id"], "-o", str(tmp_path / "small.glb"), "--preset", "mobile")
    assert (code, export["preset"]) == (0, "mobile")
    assert export["id"] in {job["id"] for job in house.trellis2("jobs")[1]}
    assert house.trellis2("delete", export["id"])[:2] == (0, [{"id": export["id"], "deleted": True}])


def test_command_line_makes_many_pictures_side_by_side(house: House, tmp_path: Path) -> None:
    """Each file beside its record; what is no picture does not stop the others."""
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / f"photos/{number}.png").write_bytes(png(16, seed=number + 70))
    (tmp_path / "photos/4.png").write_text("no picture")
    code, lines, complaints = house.trellis2("generate", str(tmp_path / "photos"), "-o", str(tmp_path / "out"))
    assert code == 2
    made = {Path(line["image"]).name: line for line in lines}
    assert made.pop("4.png")["error"]["code"] == "not_an_image"
    for name, record in made.items():
        [path] = record["files"].values()
        assert Path(path).name == name.replace(".png", ".glb")
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == record["artifacts"]["model"]["sha256"]
    assert complaints.splitlines()[-1] == "trellis2: 4 of 5 done; not done: 4.png"


@pytest.mark.parametrize(
    ("argv", "environment", "code"),
    [
        (["get", "job_unknown"], {}, 2),
        (["list"], {"TRELLIS2_API_KEY": "t2_nobody_knows"}, 5),
        (["generate", "https://127.0.0.1/mug.png"], {}, 2),
    ],
    ids=["unknown job", "wrong key", "inward url"],
)
def test_command_line_ends_with_the_code_of_the_refusal(
    argv: list[str], environment: dict[str, str], code: int, house: House
) -> None:
    """The documented exit codes, from the real service's answers."""
    assert house.trellis2(*argv, **environment)[0] == code
