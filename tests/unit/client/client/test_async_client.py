"""The async client: the same as the blocking one, over its own transport."""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from trellis2_modal import (
    AsyncBatchHandle,
    AsyncClient,
    AsyncJobHandle,
    BatchHandle,
    Client,
    JobFailed,
    JobHandle,
    RateLimited,
)
from trellis2_modal._submission import LARGE_BYTES
from trellis2_modal._sync import iterate_sync, run_sync
from trellis2_modal._transport import AsyncTransport

from tests.unit.client.scripted_transport import (
    GLB,
    Answer,
    Script,
    event,
    job,
    job_body,
    located,
    model,
    problem,
    rest,
    streamed,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def awaited(script: Script, use: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine with a client in an event loop."""

    async def run() -> Any:
        async with script.async_client() as client:
            return await use(client)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("blocking", "asynchronous"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle), (BatchHandle, AsyncBatchHandle)]
)
def test_both_clients_have_the_same_methods_and_docstrings(blocking: type, asynchronous: type) -> None:
    """A method of one class must be listed in the other."""

    def public(kind: type) -> dict[str, Any]:
        return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}

    ours, theirs = public(blocking), public(asynchronous)
    assert ours.keys() - {"batch", "job"} == theirs.keys() - {"from_connection", "batch", "job"}
    for name, method in ours.items():
        if inspect.isfunction(method):
            assert method.__doc__ == theirs[name].__doc__
            shown = inspect.signature(method)
            assert shown.parameters == inspect.signature(theirs[name]).parameters
            assert "Async" not in str(shown.return_annotation)


def test_image_becomes_a_file() -> None:
    """Submit, wait, follow, export; small images by form, large ones by upload."""
    slot = {"upload_id": "up_1", "url": "https://bucket.example.net/", "fields": {"key": "k"}, "max_bytes": 20_000_000}
    answers: list[Answer] = [
        *[problem(503), job(code=202)],
        *[httpx.Response(201, json=slot), httpx.Response(204), job(code=202, id="job_2")],
        *[job("running"), job("succeeded", artifacts=model())],
        job(code=202, id="job_3"),
    ]

    async def use(client: AsyncClient) -> None:
        handle = await client.submit(PNG, seed=7)
        other = await client.submit(PNG + bytes(LARGE_BYTES))
        assert (handle.id, other.id) == ("job_1", "job_2")
        assert list((await handle.wait()).artifacts) == ["model"]
        assert (await handle.export(preset="mobile")).id == "job_3"

    script = Script(answers)
    awaited(script, use)
    first, second = script.requests[:2]
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert PNG in second.content
    assert json.loads(script.requests[-1].content) == {"preset": "mobile"}
    assert len(script.pauses) == 2


def test_events_and_lists_are_async_iterators() -> None:
    """A broken stream is resumed; pages are fetched on demand."""
    page = httpx.Response(200, json={"data": [job_body()], "next_cursor": "c1"})
    last = httpx.Response(200, json={"data": [job_body(id="job_2")], "next_cursor": None})
    broken = streamed(event(1, "running"), httpx.ReadError("reset"))

    async def use(client: AsyncClient) -> list[str]:
        handles = [handle async for handle in client.list()]
        return [snapshot.status async for snapshot in handles[0].events()]

    script = Script([page, last, broken, streamed(event(2, "succeeded"))])
    assert awaited(script, use) == ["queued", "running", "succeeded"]
    assert script.requests[-1].headers["Last-Event-ID"] == "1"


def test_download_is_resumed(tmp_path: Path) -> None:
    """With file access in threads."""
    first = streamed(GLB[:10], httpx.ReadError("reset"), content_type="x/y")

    async def use(client: AsyncClient) -> Path:
        return await (await client.get("job_1")).download("model", tmp_path / "mug.glb")

    script = Script([job("succeeded", artifacts=model()), located(), first, located(), rest(10, GLB[10:])])
    assert awaited(script, use).read_bytes() == GLB


def test_catalog_is_packed_sent_and_followed(tmp_path: Path) -> None:
    """A folder of images, without confirmation, until the end."""
    (tmp_path / "MUG-7.png").write_bytes(PNG)
    body = {"id": "batch_1", "created_at": "2026-01-01T00:00:00Z", "counts": {"total": 1}}
    row = {"custom_id": "MUG-7", "status": "succeeded", "line": 1}
    answers: list[Answer] = [
        httpx.Response(202, json=body | {"status": "planning"}),
        httpx.Response(200, json=body | {"status": "completed"}),
        streamed(json.dumps(row).encode() + b"\n", content_type="application/x-ndjson"),
    ]

    async def use(client: AsyncClient) -> list[str]:
        handle = await client.batch(images=tmp_path, preset="shopify")
        assert handle.status == "completed"
        return [row.custom_id async for row in handle.rows()]

    script = Script(answers)
    assert awaited(script, use) == ["MUG-7"]
    assert b'name="confirm"\r\n\r\nfalse\r\n' in script.requests[0].content


@pytest.mark.parametrize(("answer", "kind"), [(problem(429), RateLimited), (job("failed"), JobFailed)], ids=repr)
def test_errors_are_those_of_the_tree(answer: httpx.Response, kind: type[Exception]) -> None:
    """As in the blocking client."""
    with pytest.raises(kind):
        awaited(Script([answer], forever=True), lambda client: client.wait("job_1"))


def test_blocking_client_works_inside_a_running_loop() -> None:
    """As in a notebook: it does not use the loop."""

    async def cell() -> list[str]:
        script = Script([job(), streamed(event(1, "running")), job(), streamed(event(2, "succeeded"))])
        client = script.client()
        next(client.stream("job_1"))
        return [snapshot.status for snapshot in client.get("job_1").events()]

    assert asyncio.run(cell()) == ["queued", "succeeded"]


def test_leaving_an_iterator_early_closes_the_response() -> None:
    """At once, also inside a running loop, which would close it later."""

    async def cell() -> None:
        stream = streamed(event(1, "running"), event(2, "running"), event(3, "succeeded"))
        events = Script([job(), stream]).client().stream("job_1")
        next(events)
        assert not stream.is_closed
        events.close()
        assert stream.is_closed

    asyncio.run(cell())


def test_files_are_read_and_written_in_a_thread() -> None:
    """A slow disk does not block the event loop."""
    assert asyncio.run(AsyncTransport().run_blocking(threading.get_ident)) != threading.get_ident()


def test_coroutine_that_suspends_cannot_be_run_without_a_loop() -> None:
    """It raises, and closes the coroutine."""
    with pytest.raises(RuntimeError, match="event loop"):
        run_sync(asyncio.sleep(0))


def test_iterate_sync_raises_the_generators_error() -> None:
    """After the items before the error."""

    async def items() -> Any:
        yield 1
        raise KeyError("x")

    iterator = iterate_sync(items())
    assert next(iterator) == 1
    with pytest.raises(KeyError):
        next(iterator)
