"""Job handles: wait, follow, download, and operations."""

import json
import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from trellis2_modal import (
    Conflict,
    IntegrityError,
    JobCanceled,
    JobExpired,
    JobFailed,
    JobHandle,
    JobUnsuccessful,
    NoStream,
    NotFound,
    NotReachable,
    ServiceFailed,
    WaitTimedOut,
)

from tests.unit.client.scripted_transport import GLB, Body, Script, event, job, located, model, problem, rest, streamed


def in_hand(script: Script, **options: Any) -> JobHandle:
    """Make a handle from the script's first answer."""
    return script.client(**options).get("job_1")


# --- the record


def test_record_is_typed_and_keeps_unknown_fields() -> None:
    """Times have time zones, artifacts and errors are records, `raw` has all fields."""
    body = {
        "finished_at": "2026-01-01T00:01:00+00:00",
        "stage": None,
        "seed": 7,
        "artifacts": {"model": {"bytes": 3, "sha256": "ab", "content_type": "model/gltf-binary", "future": 1}},
        "error": {"code": "poison", "detail": "d", "retryable": False, "stage": "shape"},
        "future": {"x": 1},
    }
    record = in_hand(Script([job("failed", **body)])).job
    assert record.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert record.finished_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert (record.stage, record.seed, record.progress) == (None, 7, 0.0)
    assert record.artifacts["model"].content_type == "model/gltf-binary"
    assert record.error
    assert (record.error.code, record.error.retryable) == ("poison", False)
    assert record.raw["future"] == {"x": 1}


# --- waiting


def test_wait_polls_until_the_job_has_succeeded() -> None:
    """With long polls; the result is the record."""
    script = Script([job(), job("running"), job("succeeded", artifacts=model())])
    record = in_hand(script).wait()
    assert list(record.artifacts) == ["model"]
    assert script.lines[1:] == ["GET https://3d.example.com/v1/jobs/job_1?wait=30"] * 2


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", JobFailed), ("canceled", JobCanceled), ("expired", JobExpired)]
)
def test_wait_raises_for_a_job_that_did_not_succeed(status: str, kind: type[JobUnsuccessful]) -> None:
    """The error has the record."""
    with pytest.raises(kind) as caught:
        in_hand(Script([job(), job(status)])).wait()
    assert caught.value.job.status == status


def test_error_of_a_failed_job_has_the_jobs_code_and_detail() -> None:
    """So that scripts can match on the job's code."""
    error = {"code": "no_object_found", "detail": "nothing stands out", "retryable": True}
    with pytest.raises(JobFailed, match="job job_1 failed: nothing stands out") as caught:
        in_hand(Script([job("failed", error=error)])).wait()
    assert (caught.value.code, caught.value.retryable) == ("no_object_found", True)


def test_wait_raises_after_its_timeout() -> None:
    """The last long poll takes only the remaining time."""
    script = Script([job()])

    def waits(request: httpx.Request) -> httpx.Response:
        script.now_s += int(request.url.params["wait"])
        return job("running")

    script.answers += [waits, waits]
    with pytest.raises(WaitTimedOut, match="job_1 is still running after 45 s") as caught:
        in_hand(script).wait(timeout_s=45)
    assert [request.url.params.get("wait") for request in script.requests] == [None, "30", "15"]
    assert caught.value.job.status == "running"


def test_wait_pauses_if_the_service_does_not_wait() -> None:
    """After each response that arrives too early."""
    script = Script([job(), job("running"), job("running"), job("succeeded")])
    in_hand(script).wait()
    assert script.pauses == [1.0, 1.0]


# --- following


def test_events_are_the_changes_until_the_end() -> None:
    """The present snapshot first; an unchanged snapshot is no event; the handle has the latest one."""
    stream = streamed(
        b"retry: 2000\n\n",
        event(1, "queued"),
        event(2, "running", stage="shape")[:20],
        event(2, "running", stage="shape")[20:] + b": still there\n\n",
        event(3, "running", stage="shape"),
        event(4, "succeeded"),
        b"id: 5\ndata: cut o",
    )
    handle = in_hand(Script([job(), stream]))
    assert [(snapshot.status, snapshot.stage) for snapshot in handle.events()] == [
        ("queued", None),
        ("running", "shape"),
        ("succeeded", None),
    ]
    assert handle.status == "succeeded"


def test_events_of_an_ended_job_send_no_request() -> None:
    """One snapshot."""
    script = Script([job("failed")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["failed"]
    assert len(script.requests) == 1


@pytest.mark.parametrize("ending", [b"", httpx.ReadError("reset"), httpx.ReadTimeout("silent")], ids=repr)
def test_broken_stream_is_resumed(ending: bytes | Exception) -> None:
    """The second request has the last event's id."""
    script = Script([job(), streamed(event(7, "running"), ending), streamed(event(8, "succeeded"))])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "running", "succeeded"]
    assert "Last-Event-ID" not in script.requests[1].headers
    assert script.requests[2].headers["Last-Event-ID"] == "7"


@pytest.mark.parametrize(
    "refusal",
    [problem(404), problem(406), httpx.Response(200, html="<html>"), httpx.Response(204)],
    ids=["404", "406", "html", "204"],
)
def test_service_without_a_stream_is_polled_conditionally(refusal: httpx.Response) -> None:
    """With If-None-Match; 304 means no change."""
    polls = [
        job("queued", etag='"a"'),
        httpx.Response(304, headers={"ETag": '"a"'}),
        job("running", etag='"b"'),
        job("succeeded", etag='"c"'),
    ]
    script = Script([job(), refusal, *polls])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "running", "succeeded"]
    assert [request.headers.get("If-None-Match") for request in script.requests[2:]] == [None, '"a"', '"a"', '"b"']
    assert len(script.pauses) == 3


def test_empty_streams_are_replaced_by_polling() -> None:
    """After three streams without an event."""
    script = Script([job(), streamed(), streamed(), streamed(), job("succeeded")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "succeeded"]


def test_stream_that_breaks_off_often_but_has_events_is_kept() -> None:
    """Only breaks without an event in between count."""
    streams = [streamed(event(number, "running", progress=number / 10)) for number in range(1, 6)]
    script = Script([job(), *streams, streamed(event(6, "succeeded"))])
    assert len(list(in_hand(script).events())) == 7


def test_event_without_a_job_makes_the_client_fetch_it() -> None:
    """So a service may send events without records."""
    script = Script([job(), streamed(b"data: changed\n\n"), job("succeeded")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "succeeded"]


def test_following_a_deleted_job_raises_not_found() -> None:
    """Instead of an endless loop."""
    with pytest.raises(NotFound):
        list(in_hand(Script([job(), streamed(), streamed(), streamed(), problem(404)])).events())


# --- the service's own events


def test_stream_yields_each_event_with_id_type_and_preview() -> None:
    """Unchanged; the handle has the latest record."""
    shown = event(2, "running", "preview", stage="shape", preview="data:image/webp;base64,AA==")
    script = Script([job(), streamed(event(1, "running", "started"), shown, event(3, "succeeded", "succeeded"))])
    handle = in_hand(script)
    assert [(one.id, one.type, one.job.stage, one.preview) for one in handle.stream()] == [
        ("1", "started", None, None),
        ("2", "preview", "shape", "data:image/webp;base64,AA=="),
        ("3", "succeeded", None, None),
    ]
    assert handle.status == "succeeded"


def test_stream_continues_after_a_given_event() -> None:
    """With its id as Last-Event-ID, and after a break with the latest id."""
    broken = streamed(event(8, "running"), httpx.ReadError("reset"))
    script = Script([job(), broken, streamed(event(9, "succeeded"))])
    assert [one.id for one in script.client().stream("job_1", last_event_id="7")] == ["8", "9"]
    assert [request.headers.get("Last-Event-ID") for request in script.requests] == [None, "7", "8"]


def test_stream_after_the_terminal_event_is_empty() -> None:
    """204 to a Last-Event-ID: there is no further event."""
    script = Script([job("succeeded"), httpx.Response(204)])
    assert list(in_hand(script).stream("9")) == []


def test_stream_of_an_ended_job_keeps_the_terminal_record() -> None:
    """All events are yielded; the handle keeps the terminal record with its artifacts."""
    script = Script([job("succeeded", artifacts=model()), streamed(event(1, "running"), event(2, "succeeded"))])
    handle = in_hand(script)
    next(handle.stream())
    assert (handle.status, list(handle.job.artifacts)) == ("succeeded", ["model"])


def test_terminal_event_before_a_retry_does_not_end_the_stream() -> None:
    """The stream begins with past events; the service closes it after the last one."""
    past = (event(1, "running", "started"), event(2, "failed", "failed"), event(3, "queued", "queued"))
    answers = [job(), streamed(*past, event(4, "succeeded", "succeeded"))]
    assert [one.type for one in in_hand(Script([*answers])).stream()] == ["started", "failed", "queued", "succeeded"]
    snapshots = in_hand(Script([job(), streamed(*past, event(4, "succeeded"))])).events()
    assert [snapshot.status for snapshot in snapshots] == ["queued", "running", "queued", "succeeded"]


def test_stream_that_breaks_after_a_terminal_event_is_resumed() -> None:
    """The job may have been retried; 204 means that there is no further event."""
    answers = [streamed(event(2, "failed", "failed"), httpx.ReadError("reset")), httpx.Response(204)]
    script = Script([job(), *answers])
    assert [one.type for one in in_hand(script).stream()] == ["failed"]
    assert script.requests[-1].headers["Last-Event-ID"] == "2"


@pytest.mark.parametrize("answers", [[httpx.Response(200, html="<html>")], [streamed(), streamed(), streamed()]])
def test_missing_stream_raises_no_stream(answers: list[Any]) -> None:
    """A response of another type, or three streams without an event."""
    with pytest.raises(NoStream):
        list(in_hand(Script([job(), *answers])).stream())


# --- downloading


def whole(body: bytes = GLB) -> httpx.Response:
    return streamed(body[:10], body[10:], content_type="model/gltf-binary")


def test_download_sends_no_credentials_to_the_store(tmp_path: Path) -> None:
    """The signed URL is enough."""
    script = Script([job("succeeded", artifacts=model()), located(), whole()])
    handle = in_hand(script, api_key="t2_a_b", modal_key="wk", modal_secret="ws")
    assert handle.download("model", tmp_path / "mug.glb").read_bytes() == GLB
    assert script.lines[1:] == [
        "GET https://3d.example.com/v1/jobs/job_1/artifacts/model",
        "GET https://bucket.example.net/model.glb?signature=abc",
    ]
    assert script.requests[1].headers["X-API-Key"] == "t2_a_b"
    assert not {"x-api-key", "authorization", "modal-key", "modal-secret"} & set(script.requests[2].headers)


def test_download_from_the_services_own_store_has_credentials(tmp_path: Path) -> None:
    """A signed URL at the service's origin is behind the same proxy authentication."""
    script = Script([job("succeeded", artifacts=model()), located("https://3d.example.com/v1/files/m?s=1"), whole()])
    in_hand(script, modal_key="wk", modal_secret="ws").download("model", tmp_path / "mug.glb")
    assert script.requests[2].headers["Modal-Key"] == "wk"


@pytest.mark.parametrize("location", ["http://3d.example.com/x", "https://3d.example.com:8443/x"])
def test_credentials_stay_with_scheme_and_port(location: str, tmp_path: Path) -> None:
    """Another scheme or port is another origin."""
    script = Script([job("succeeded", artifacts=model()), located(location), whole()])
    in_hand(script, api_key="t2_a_b").download("model", tmp_path / "mug.glb")
    assert "Authorization" not in script.requests[2].headers


@pytest.mark.parametrize(
    "bad",
    [
        streamed(GLB[:-1] + b"x", content_type="model/gltf-binary"),
        streamed(GLB[:-1], content_type="model/gltf-binary"),
        streamed(GLB[:10], httpx.ReadError("reset"), content_type="model/gltf-binary"),
    ],
    ids=["changed", "short", "broken off"],
)
def test_download_that_does_not_match_the_record_is_repeated(bad: httpx.Response, tmp_path: Path) -> None:
    """Changed, truncated or broken off: with a new signed URL, and without the bytes of the first attempt."""
    script = Script([job("succeeded", artifacts=model()), located(), bad, located(), whole()])
    in_hand(script).download("model", tmp_path / "mug.glb")
    assert (tmp_path / "mug.glb").read_bytes() == GLB
    assert [path.name for path in tmp_path.iterdir()] == ["mug.glb"]


@pytest.mark.parametrize(
    ("pieces", "kind"), [((b"other",), IntegrityError), ((b"gl", httpx.ReadError("reset")), NotReachable)]
)
def test_download_that_never_matches_keeps_the_old_file(
    pieces: tuple[bytes | Exception, ...], kind: type[Exception], tmp_path: Path
) -> None:
    """After three attempts it raises and leaves no temporary file."""
    (tmp_path / "mug.glb").write_bytes(b"old")
    script = Script([job("succeeded", artifacts=model())])
    script.answers += [answer for _ in range(3) for answer in (located(), streamed(*pieces, content_type="x/y"))]
    with pytest.raises(kind):
        in_hand(script).download("model", tmp_path / "mug.glb")
    assert script.answers == []
    assert (tmp_path / "mug.glb").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["mug.glb"]


def broken_off(*pieces: bytes) -> httpx.Response:
    return streamed(*pieces, httpx.ReadError("reset"), content_type="model/gltf-binary")


def test_download_is_resumed(tmp_path: Path) -> None:
    """With Range, as long as each attempt brings bytes; a pause before each."""
    tries = [
        *[located(), broken_off(GLB[:10])],
        *[located(), rest(10, httpx.ReadError("reset"))],
        *[located(), httpx.Response(206, headers={"Content-Range": "bytes 10-1003/1004"}, stream=Body(GLB[10:20]))],
        *[located(), rest(20, GLB[20:500], httpx.ReadError("reset"))],
        *[located(), rest(500, GLB[500:])],
    ]
    script = Script([job("succeeded", artifacts=model()), *tries])
    in_hand(script).download("model", tmp_path / "mug.glb")
    assert (tmp_path / "mug.glb").read_bytes() == GLB
    ranges = [request.headers.get("Range") for request in script.requests[2::2]]
    assert ranges == [None, "bytes=10-", "bytes=10-", "bytes=20-", "bytes=500-"]
    assert len(script.pauses) == 3


@pytest.mark.parametrize("answer", [whole(), rest(0, GLB)], ids=["200", "another range"])
def test_store_that_ignores_range_is_read_from_the_beginning(answer: httpx.Response, tmp_path: Path) -> None:
    """The earlier bytes are discarded."""
    second = answer if answer.status_code == 206 else whole()
    script = Script([job("succeeded", artifacts=model()), located(), broken_off(GLB[:10]), located(), second])
    in_hand(script).download("model", tmp_path / "mug.glb")
    assert (tmp_path / "mug.glb").read_bytes() == GLB


def test_download_stops_after_the_records_length(tmp_path: Path) -> None:
    """After one chunk more."""
    endless = [piece for _ in range(3) for piece in (located(), streamed(GLB, b"more", AssertionError("read on")))]
    script = Script([job("succeeded", artifacts=model()), *endless])
    with pytest.raises(IntegrityError):
        in_hand(script).download("model", tmp_path / "mug.glb")


def test_full_disk_keeps_no_partial_file(tmp_path: Path) -> None:
    """The error is the disk's; the partial file is removed, or the disk would stay full."""
    body = bytes(200_000)
    pieces = [body[at : at + 3_000] for at in range(0, len(body), 3_000)]  # smaller than what a file keeps in memory
    handle = in_hand(Script([job("succeeded", artifacts=model(body)), located(), streamed(*pieces)]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            handle.download("model", tmp_path / "mug.glb")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_kept_partial_download_is_resumed_by_the_next_call(tmp_path: Path) -> None:
    """Also by another process: the file in the target's folder is named after its sha256."""
    target = tmp_path / "mug.glb"
    lost = [httpx.ConnectError("gone")] * 6
    script = Script([job("succeeded", artifacts=model()), located(), broken_off(GLB[:400]), *lost])
    with pytest.raises(NotReachable):
        in_hand(script).download("model", target, keep_partial=True)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == GLB[:400]
    script = Script([job("succeeded", artifacts=model()), located(), rest(400, GLB[400:])])
    in_hand(script).download("model", target, keep_partial=True)
    assert script.requests[-1].headers["Range"] == "bytes=400-"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("mug.glb", GLB)]


def test_damaged_partial_download_is_restarted(tmp_path: Path) -> None:
    """The sha256 covers the kept bytes as well."""
    sha256 = model()["model"]["sha256"]
    (tmp_path / f".mug.glb.{sha256[:16]}.part").write_bytes(b"spoiled")
    script = Script([job("succeeded", artifacts=model()), located(), rest(7, GLB[7:]), located(), whole()])
    in_hand(script).download("model", tmp_path / "mug.glb", keep_partial=True)
    assert "Range" not in script.requests[-1].headers
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("mug.glb", GLB)]


def test_download_of_a_failed_job_raises_the_jobs_error(tmp_path: Path) -> None:
    """Not KeyError."""
    with pytest.raises(JobFailed):
        in_hand(Script([job("failed")])).download("model", tmp_path / "mug.glb")


# --- changing


def test_cancel_returns_the_record() -> None:
    """Of a job that was canceled or had ended."""
    script = Script([job("running"), job("canceled")])
    handle = in_hand(script)
    assert handle.cancel().status == "canceled"
    assert handle.status == "canceled"
    assert script.lines[1] == "POST https://3d.example.com/v1/jobs/job_1/cancel"


def test_retry_is_not_repeated_after_a_lost_response() -> None:
    """The first request may have queued the job; a second would be refused and hide that."""
    script = Script([job("failed"), httpx.ReadTimeout("silent")])
    with pytest.raises(NotReachable):
        in_hand(script).retry()
    with pytest.raises(ServiceFailed):
        in_hand(Script([job("failed"), problem(503)])).retry()


@pytest.mark.parametrize("harmless", [httpx.ConnectError("refused"), problem(429)], ids=repr)
def test_retry_is_repeated_if_it_was_not_carried_out(harmless: httpx.Response | Exception) -> None:
    """Without a connection, or with 429."""
    script = Script([job("failed"), harmless, job("queued", code=202)])
    assert in_hand(script).retry().status == "queued"


def test_retry_of_an_unfinished_job_is_a_conflict() -> None:
    """With the service's message."""
    with pytest.raises(Conflict):
        in_hand(Script([job("running"), problem(409, "transition_refused")])).retry()


@pytest.mark.parametrize("answer", [httpx.Response(204), problem(404)], ids=["deleted", "gone already"])
def test_delete_of_a_deleted_job_is_no_error(answer: httpx.Response) -> None:
    """A second attempt after a lost response finds no job."""
    script = Script([job("succeeded"), answer])
    in_hand(script).delete()
    assert script.lines[1] == "DELETE https://3d.example.com/v1/jobs/job_1"


def test_export_is_a_new_job_and_safe_to_repeat() -> None:
    """Only given parameters are sent; after a lost response with the same key."""
    script = Script([job("succeeded"), httpx.ReadError("reset"), job("queued", code=202, id="job_2")])
    other = in_hand(script).export(preset="mobile", texture_size=512)
    assert other.id == "job_2"
    first, second = script.requests[1:]
    assert str(second.url) == "https://3d.example.com/v1/jobs/job_1/exports"
    assert json.loads(second.content) == {"preset": "mobile", "texture_size": 512}
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
