"""The client and the command line against the real gateway, queue and worker; only sampling is scripted."""

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

from infra.embedded_store.store import SqliteStore
from infra.local import Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.domain.job import Artifact, Job, Stage
from shared.errors import NoObjectFound
from shared.storage import keys
from shared.storage.ports import ObjectStore
from worker.engine import Progress
from worker.runner.job_function import CONTENT_TYPES, JobResult

HANG_S = 600.0  # ends a test that hangs; no test depends on how fast the machine is


def png(side: int, *, seed: int = 0) -> bytes:
    """Make an image of noise, which does not compress: about 3 * side^2 bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


SMALL = png(16)
LARGE = png(1_200)


class ScriptedJobFunction:
    """A job function that a job's `custom_id` controls: `held`, `fails once`, or any other: succeeds at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.released = threading.Event()
        self.inputs: dict[str, bytes] = {}

    def __call__(self, job: Job, progress: Progress) -> JobResult:
        if job.input.key:
            self.inputs[job.id] = self._store.get(job.input.key).body
        progress(Stage.SHAPE, 0.5)
        if job.custom_id == "fails once" and job.run_number == 0:
            raise NoObjectFound("nothing in the image stands out")
        while job.custom_id == "held" and not self.released.wait(0.05):
            progress(Stage.SHAPE, 0.5)
        return JobResult(
            {file.split(".")[0]: self._store_artifact(job, file) for file in CONTENT_TYPES}, {"shape": 1.5}
        )

    def _store_artifact(self, job: Job, filename: str) -> Artifact:
        body = f"{job.id} {filename} ".encode() * 1_000
        key = keys.artifact(job.id, job.attempt, filename)
        self._store.put(key, body)
        return Artifact(
            key=key,
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            content_type=CONTENT_TYPES[filename],
        )


class LocalService:
    """The embedded service in this process."""

    def __init__(self, settings: Settings) -> None:
        store = open_store(settings).inner
        assert isinstance(store, SqliteStore)
        self.job_function = ScriptedJobFunction(store)
        self.service = Service(settings, work=self.job_function)
        self.service.start()

    @property
    def url(self) -> str:
        return self.service.base_url

    def trellis2(self, *argv: str, **environment: str) -> tuple[int, list[Any], str]:
        """Run the command line with --json; return its exit code, its output and its stderr."""
        out, err = io.StringIO(), io.StringIO()
        session = Session({"TRELLIS2_URL": self.url, **environment}, out, err, width=lambda: 80)
        code = run([*argv, "--json"], session, [])
        return code, [json.loads(line) for line in out.getvalue().splitlines()], err.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    running = LocalService(Settings(host="127.0.0.1", port=0, data_dir=tmp_path_factory.mktemp("service")))
    yield running
    running.service.stop()


@pytest.fixture
def client(service: LocalService) -> Iterator[Client]:
    service.job_function.released.clear()
    with Client(service.url) as opened:
        yield opened


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["by form", "by upload"])
def test_image_becomes_artifacts_on_disk(image: bytes, service: LocalService, client: Client, tmp_path: Path) -> None:
    """Submitted either way, the worker gets the image's bytes, and the results match the record."""
    assert (len(image) > LARGE_BYTES) == (image is LARGE)
    handle = client.submit(image, preset="game", seed=7, texture_size=512, remesh=False, metadata={"sku": "1"})
    record = handle.wait(HANG_S)
    assert service.job_function.inputs[handle.id] == image
    assert (record.preset, record.seed, record.metadata) == ("game", 7, {"sku": "1"})
    parameters = {name: record.parameters[name] for name in ("decimation_target", "texture_size", "remesh")}
    assert parameters == {"decimation_target": 10_000, "texture_size": 512, "remesh": False}
    assert record.timings == {"shape": 1.5}
    for name, filename in {"model": "model.glb", "poster": "poster.webp", "state": "state.safetensors"}.items():
        saved = handle.download(name, tmp_path / filename)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == record.artifacts[name].sha256


def test_following_shows_each_status_and_the_stage(service: LocalService, client: Client) -> None:
    """Events arrive while the job runs, not only at its end."""
    seen = []
    for job in client.submit(SMALL, custom_id="held").events():
        seen.append((job.status, job.stage))
        if job.stage == "shape":
            service.job_function.released.set()
    assert seen[0][0] in (Status.QUEUED, Status.RUNNING)
    assert (Status.RUNNING, "shape") in seen
    assert seen[-1] == (Status.SUCCEEDED, None)


class LostResponse(httpx.BaseTransport):
    """Sends every request and loses the response to the first."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if self.lost:
            return response
        self.lost += 1
        response.read()
        raise httpx.ReadError("the response was lost")


def test_lost_response_creates_no_second_job(service: LocalService) -> None:
    """The gateway created the job, and the client sent the request again: one job."""
    transport = LostResponse()
    with Client(service.url, transport=transport, pause=lambda _: None) as client:
        before = {handle.id for handle in Client(service.url).list()}
        handle = client.submit(SMALL)
        assert transport.lost == 1
        assert {listed.id for listed in client.list()} - before == {handle.id}


class BrokenDownloads(httpx.BaseTransport):
    """Breaks off the first `cuts` downloads, each after `after` bytes; records each requested range."""

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
            response.stream = BrokenBody(response.stream, self._after)
        return response


class BrokenBody(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, stream: Any, after: int) -> None:
        self._stream, self._after = stream, after

    def __iter__(self) -> Iterator[bytes]:
        yield b"".join(self._stream)[: self._after]
        raise httpx.ReadError("reset")

    def close(self) -> None:
        self._stream.close()


def test_download_is_resumed(service: LocalService, client: Client, tmp_path: Path) -> None:
    """The store sends the missing bytes; the result matches the record."""
    handle = client.submit(SMALL)
    handle.wait(HANG_S)
    transport = BrokenDownloads(cuts=2, after=10_000)
    with Client(service.url, transport=transport, pause=lambda _: None) as broken:
        saved = broken.get(handle.id).download("model", tmp_path / "model.glb")
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == handle.job.artifacts["model"].sha256
    assert transport.ranges == [None, "bytes=10000-", "bytes=20000-"]


def test_another_client_continues_with_the_events_of_a_job(service: LocalService, client: Client) -> None:
    """After the last event of the first client; every event once, the terminal one last, then none."""
    handle = client.submit(SMALL, custom_id="held")
    first = []
    for event in handle.stream():
        first.append(event)
        if event.type == "progress":
            break
    service.job_function.released.set()
    with Client(service.url) as second:
        later = list(second.stream(handle.id, last_event_id=first[-1].id))
        assert list(second.stream(handle.id, last_event_id=later[-1].id)) == []
    ids = [int(event.id) for event in first + later]
    assert ids == sorted(set(ids))
    assert [event.type for event in first][:2] == ["queued", "started"]
    assert (later[-1].type, later[-1].job.status) == ("succeeded", Status.SUCCEEDED)


def test_async_client_runs_jobs(service: LocalService, tmp_path: Path) -> None:
    """Several jobs at once over one client: submitted either way, followed, exported, listed, downloaded."""

    async def run_job(client: AsyncClient, number: int) -> AsyncJobHandle:
        handle = await client.submit(LARGE if number == 0 else SMALL, seed=number)
        statuses = [snapshot.status async for snapshot in handle.events()]
        assert statuses[-1] is Status.SUCCEEDED
        smaller = await handle.export(preset="mobile")
        record = await smaller.wait(HANG_S)
        saved = await smaller.download("model", tmp_path / f"{number}.glb")
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == record.artifacts["model"].sha256
        return smaller

    async def run() -> None:
        async with AsyncClient(service.url) as client:
            handles = await asyncio.gather(*(run_job(client, number) for number in range(3)))
            listed = {handle.id async for handle in client.list(status="succeeded")}
            assert {handle.id for handle in handles} <= listed
            await handles[0].delete()
            with pytest.raises(NotFound):
                await client.wait(handles[0].id)

    asyncio.run(run())


def test_async_client_runs_a_catalog(service: LocalService, tmp_path: Path) -> None:
    """A folder of images, every row downloaded by its name."""
    (tmp_path / "photos").mkdir()
    for number in range(2):
        (tmp_path / f"photos/MUG-{number}.png").write_bytes(png(16, seed=number + 50))

    async def run() -> list[str]:
        async with AsyncClient(service.url) as client:
            handle = await client.batch(images=tmp_path / "photos", preset="game", timeout_s=HANG_S)
            rows = [row async for row in handle.rows()]
            for row in rows:
                await handle.download(row, "model", tmp_path / f"{row.custom_id}.glb")
            assert (await handle.save("results.csv", tmp_path / "results.csv")).exists()
            return [f"{row.custom_id} {row.status}" for row in rows]

    assert asyncio.run(run()) == ["MUG-0 succeeded", "MUG-1 succeeded"]
    assert {path.name for path in tmp_path.glob("*.*")} == {"MUG-0.glb", "MUG-1.glb", "results.csv"}


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
def test_idempotency_key_returns_the_same_job(image: bytes, client: Client) -> None:
    """For the same payload; another payload is refused."""
    key = f"order-{len(image)}"
    first = client.submit(image, idempotency_key=key, seed=1)
    assert client.submit(image, idempotency_key=key, seed=1).id == first.id
    with pytest.raises(InputRejected) as caught:
        client.submit(image, idempotency_key=key, seed=2)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("image", "parameters", "pointer"),
    [
        (b"GIF89a" + bytes(100), {}, "/image"),
        (SMALL, {"decimation_target": 1}, "/decimation_target"),
        (SMALL, {"no_such_parameter": 1}, "/no_such_parameter"),
        ("https://127.0.0.1/mug.png", {}, "/image/url"),
    ],
    ids=["gif", "range", "unknown", "private url"],
)
def test_invalid_input_is_refused_with_its_field(
    image: bytes | str, parameters: dict[str, Any], pointer: str, client: Client
) -> None:
    """`errors` names the field."""
    with pytest.raises(InputRejected) as caught:
        client.submit(image, **parameters)
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_cancel_ends_a_running_job(client: Client) -> None:
    """At once; a second cancel changes nothing."""
    handle = client.submit(SMALL, custom_id="held")
    next(job for job in handle.events() if job.status is Status.RUNNING)
    assert handle.cancel().status is Status.CANCELED
    assert handle.cancel().status is Status.CANCELED
    with pytest.raises(JobCanceled):
        handle.wait(HANG_S)


def test_failed_job_has_its_code_and_can_be_retried(client: Client) -> None:
    """The error has the worker's code; a retry keeps the id."""
    handle = client.submit(SMALL, custom_id="fails once")
    with pytest.raises(JobFailed) as caught:
        handle.wait(HANG_S)
    assert caught.value.code == "no_object_found"
    handle.retry()
    assert handle.wait(HANG_S).status is Status.SUCCEEDED
    with pytest.raises(Conflict):
        handle.retry()


def test_export_keeps_the_shape_and_changes_the_options(client: Client) -> None:
    """A new job with the seed of the first."""
    first = client.submit(SMALL, seed=11)
    first.wait(HANG_S)
    exported = first.export(preset="mobile", texture_format="webp")
    record = exported.wait(HANG_S)
    assert exported.id != first.id
    assert (record.seed, record.preset, record.parameters["texture_format"]) == (11, "mobile", "webp")


def test_list_finds_jobs_and_delete_removes_them(client: Client) -> None:
    """Newest first; a deleted job cannot be fetched, and deleting it again is no error."""
    older, newer = client.submit(SMALL, seed=1), client.submit(SMALL, seed=2)
    for handle in (older, newer):
        handle.wait(HANG_S)
    listed = [handle.id for handle in client.list(status="succeeded")]
    assert listed.index(newer.id) < listed.index(older.id)
    newer.delete()
    newer.delete()
    assert newer.id not in [handle.id for handle in client.list()]
    with pytest.raises(NotFound):
        client.get(newer.id)


def test_wrong_key_is_not_allowed(service: LocalService) -> None:
    """By error class and status."""
    with pytest.raises(NotAllowed) as caught, Client(service.url, api_key="t2_unknown") as client:
        client.get("job_1")
    assert caught.value.status == 401


def test_command_line_runs_a_job(service: LocalService, tmp_path: Path) -> None:
    """generate, get, export, jobs, delete: exit code 0 and files on disk."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    target = tmp_path / "out" / "mug.glb"
    code, [record], errors = service.trellis2("generate", str(tmp_path / "mug.png"), "-o", str(target), "--seed", "5")
    assert (code, record["status"], record["seed"]) == (0, "succeeded", 5)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == record["artifacts"]["model"]["sha256"]
    assert errors.splitlines()[-1] == "mug.png: succeeded"
    assert service.trellis2("get", record["id"])[1][0]["id"] == record["id"]
    code, [export], _ = service.trellis2(
        "export", record["id"], "-o", str(tmp_path / "small.glb"), "--preset", "mobile"
    )
    assert (code, export["preset"]) == (0, "mobile")
    assert export["id"] in {job["id"] for job in service.trellis2("jobs")[1]}
    assert service.trellis2("delete", export["id"])[:2] == (0, [{"id": export["id"], "deleted": True}])


def test_command_line_generates_many_images(service: LocalService, tmp_path: Path) -> None:
    """Each record has its file; a file that is not an image does not stop the others."""
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / f"photos/{number}.png").write_bytes(png(16, seed=number + 70))
    (tmp_path / "photos/4.png").write_text("no image")
    code, lines, errors = service.trellis2("generate", str(tmp_path / "photos"), "-o", str(tmp_path / "out"))
    assert code == 2
    records = {Path(line["image"]).name: line for line in lines}
    assert records.pop("4.png")["error"]["code"] == "not_an_image"
    for name, record in records.items():
        [path] = record["files"].values()
        assert Path(path).name == name.replace(".png", ".glb")
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == record["artifacts"]["model"]["sha256"]
    assert errors.splitlines()[-1] == "trellis2: 4 of 5 done; not done: 4.png"


@pytest.mark.parametrize(
    ("argv", "environment", "code"),
    [
        (["get", "job_unknown"], {}, 2),
        (["list"], {"TRELLIS2_API_KEY": "t2_unknown"}, 5),
        (["generate", "https://127.0.0.1/mug.png"], {}, 2),
    ],
    ids=["unknown job", "wrong key", "private url"],
)
def test_command_line_exits_with_the_code_of_the_error(
    argv: list[str], environment: dict[str, str], code: int, service: LocalService
) -> None:
    """The documented exit codes, for errors of the real service."""
    assert service.trellis2(*argv, **environment)[0] == code
