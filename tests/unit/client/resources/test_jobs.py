"""A job in hand: waiting, following, downloading, changing."""

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
    """The handle of a job that the script's first answer describes."""
    return script.client(**options).get("job_1")


# --- the record


def test_record_has_types_and_keeps_what_it_does_not_know() -> None:
    """Times are aware, artifacts and errors are records, unknown fields stay readable in `raw`."""
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


def test_wait_asks_long_until_the_job_has_succeeded() -> None:
    """Long polls, and the record at the end."""
    script = Script([job(), job("running"), job("succeeded", artifacts=model())])
    record = in_hand(script).wait()
    assert list(record.artifacts) == ["model"]
    assert script.lines[1:] == ["GET https://3d.example.com/v1/jobs/job_1?wait=30"] * 2


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", JobFailed), ("canceled", JobCanceled), ("expired", JobExpired)]
)
def test_wait_raises_for_a_job_that_ended_otherwise(status: str, kind: type[JobUnsuccessful]) -> None:
    """The record travels with the error."""
    with pytest.raises(kind) as caught:
        in_hand(Script([job(), job(status)])).wait()
    assert caught.value.job.status == status


def test_failed_job_lends_its_error_code_and_words() -> None:
    """A script can match on the job's own code."""
    error = {"code": "no_object_found", "detail": "nothing stands out", "retryable": True}
    with pytest.raises(JobFailed, match="job job_1 failed: nothing stands out") as caught:
        in_hand(Script([job("failed", error=error)])).wait()
    assert (caught.value.code, caught.value.retryable) == ("no_object_found", True)


def test_wait_ends_when_its_time_is_up_and_the_job_goes_on() -> None:
    """The last question asks for no more than what is left."""
    script = Script([job()])

    def waits(request: httpx.Request) -> httpx.Response:
        script.now_s += int(request.url.params["wait"])
        return job("running")

    script.answers += [waits, waits]
    with pytest.raises(WaitTimedOut, match="job_1 is still running after 45 s") as caught:
        in_hand(script).wait(timeout_s=45)
    assert [request.url.params.get("wait") for request in script.requests] == [None, "30", "15"]
    assert caught.value.job.status == "running"


def test_wait_does_not_hammer_a_service_that_answers_at_once() -> None:
    """Where `wait` is not honoured each question is followed by a pause."""
    script = Script([job(), job("running"), job("running"), job("succeeded")])
    in_hand(script).wait()
    assert script.pauses == [1.0, 1.0]


# --- following


def test_events_are_the_changes_from_now_to_the_end() -> None:
    """The present snapshot first; a renewal that changes nothing is no event; the handle keeps up."""
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


def test_events_of_an_ended_job_ask_for_nothing() -> None:
    """One snapshot, no request."""
    script = Script([job("failed")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["failed"]
    assert len(script.requests) == 1


@pytest.mark.parametrize("ending", [b"", httpx.ReadError("reset"), httpx.ReadTimeout("silent")], ids=repr)
def test_broken_stream_is_taken_up_where_it_ended(ending: bytes | Exception) -> None:
    """The second request names the last event seen."""
    script = Script([job(), streamed(event(7, "running"), ending), streamed(event(8, "succeeded"))])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "running", "succeeded"]
    assert "Last-Event-ID" not in script.requests[1].headers
    assert script.requests[2].headers["Last-Event-ID"] == "7"


@pytest.mark.parametrize(
    "refusal",
    [problem(404), problem(406), httpx.Response(200, html="<html>"), httpx.Response(204)],
    ids=["404", "406", "html", "204"],
)
def test_service_without_a_stream_is_polled_with_conditions(refusal: httpx.Response) -> None:
    """Polling tells what it has seen, and takes 304 for no news."""
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


def test_stream_that_never_says_anything_gives_way_to_polling() -> None:
    """Three silent streams in a row are enough."""
    script = Script([job(), streamed(), streamed(), streamed(), job("succeeded")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "succeeded"]


def test_stream_that_breaks_often_but_says_something_each_time_is_kept() -> None:
    """Only breaks in a row, without an event between them, count."""
    streams = [streamed(event(number, "running", progress=number / 10)) for number in range(1, 6)]
    script = Script([job(), *streams, streamed(event(6, "succeeded"))])
    assert len(list(in_hand(script).events())) == 7


def test_event_that_carries_no_job_makes_the_client_ask() -> None:
    """A service that only nudges is understood, too."""
    script = Script([job(), streamed(b"data: changed\n\n"), job("succeeded")])
    assert [snapshot.status for snapshot in in_hand(script).events()] == ["queued", "succeeded"]


def test_following_a_job_that_is_deleted_meanwhile_ends_in_not_found() -> None:
    """No endless loop on what is gone."""
    with pytest.raises(NotFound):
        list(in_hand(Script([job(), streamed(), streamed(), streamed(), problem(404)])).events())


# --- the service's own events


def test_stream_gives_each_event_with_its_id_type_and_preview() -> None:
    """What the service tells, and nothing made of it; the handle keeps up."""
    shown = event(2, "running", "preview", stage="shape", preview="data:image/webp;base64,AA==")
    script = Script([job(), streamed(event(1, "running", "started"), shown, event(3, "succeeded", "succeeded"))])
    handle = in_hand(script)
    assert [(one.id, one.type, one.job.stage, one.preview) for one in handle.stream()] == [
        ("1", "started", None, None),
        ("2", "preview", "shape", "data:image/webp;base64,AA=="),
        ("3", "succeeded", None, None),
    ]
    assert handle.status == "succeeded"


def test_stream_goes_on_after_an_event_that_another_process_has_seen() -> None:
    """The id travels, and so does the last one after a break."""
    broken = streamed(event(8, "running"), httpx.ReadError("reset"))
    script = Script([job(), broken, streamed(event(9, "succeeded"))])
    assert [one.id for one in script.client().stream("job_1", last_event_id="7")] == ["8", "9"]
    assert [request.headers.get("Last-Event-ID") for request in script.requests] == [None, "7", "8"]


def test_stream_of_a_job_whose_end_was_seen_is_empty() -> None:
    """204 to a Last-Event-ID: there is nothing more to tell."""
    script = Script([job("succeeded"), httpx.Response(204)])
    assert list(in_hand(script).stream("9")) == []


def test_stream_of_what_has_ended_takes_nothing_back() -> None:
    """Its events are told from the first one on; the handle keeps the end, and what there is to fetch."""
    script = Script([job("succeeded", artifacts=model()), streamed(event(1, "running"), event(2, "succeeded"))])
    handle = in_hand(script)
    next(handle.stream())
    assert (handle.status, list(handle.job.artifacts)) == ("succeeded", ["model"])


def test_end_before_a_retry_is_told_but_is_not_the_end() -> None:
    """The service begins with the past; what it closes the stream after is the end."""
    past = (event(1, "running", "started"), event(2, "failed", "failed"), event(3, "queued", "queued"))
    answers = [job(), streamed(*past, event(4, "succeeded", "succeeded"))]
    assert [one.type for one in in_hand(Script([*answers])).stream()] == ["started", "failed", "queued", "succeeded"]
    snapshots = in_hand(Script([job(), streamed(*past, event(4, "succeeded"))])).events()
    assert [snapshot.status for snapshot in snapshots] == ["queued", "running", "queued", "succeeded"]


def test_end_whose_stream_breaks_is_asked_for_again() -> None:
    """It may have been that of a job that was retried; the service says that there is no more."""
    answers = [streamed(event(2, "failed", "failed"), httpx.ReadError("reset")), httpx.Response(204)]
    script = Script([job(), *answers])
    assert [one.type for one in in_hand(script).stream()] == ["failed"]
    assert script.requests[-1].headers["Last-Event-ID"] == "2"


@pytest.mark.parametrize("answers", [[httpx.Response(200, html="<html>")], [streamed(), streamed(), streamed()]])
def test_stream_that_is_not_to_be_had_is_an_error_of_its_own(answers: list[Any]) -> None:
    """A page of something else, or three silent streams in a row."""
    with pytest.raises(NoStream):
        list(in_hand(Script([job(), *answers])).stream())


# --- downloading


def whole(body: bytes = GLB) -> httpx.Response:
    return streamed(body[:10], body[10:], content_type="model/gltf-binary")


def test_download_follows_to_the_store_without_credentials(tmp_path: Path) -> None:
    """The service says where; the store is asked with nothing but the signed URL."""
    script = Script([job("succeeded", artifacts=model()), located(), whole()])
    handle = in_hand(script, api_key="t2_a_b", modal_key="wk", modal_secret="ws")
    assert handle.download("model", tmp_path / "mug.glb").read_bytes() == GLB
    assert script.lines[1:] == [
        "GET https://3d.example.com/v1/jobs/job_1/artifacts/model",
        "GET https://bucket.example.net/model.glb?signature=abc",
    ]
    assert script.requests[1].headers["X-API-Key"] == "t2_a_b"
    assert not {"x-api-key", "authorization", "modal-key", "modal-secret"} & set(script.requests[2].headers)


def test_download_from_the_services_own_store_passes_its_proxy(tmp_path: Path) -> None:
    """A signed URL at the service's own origin lies behind the same proxy auth."""
    script = Script([job("succeeded", artifacts=model()), located("https://3d.example.com/v1/files/m?s=1"), whole()])
    in_hand(script, modal_key="wk", modal_secret="ws").download("model", tmp_path / "mug.glb")
    assert script.requests[2].headers["Modal-Key"] == "wk"


@pytest.mark.parametrize("location", ["http://3d.example.com/x", "https://3d.example.com:8443/x"])
def test_credentials_stay_with_scheme_and_port(location: str, tmp_path: Path) -> None:
    """The same name over another scheme or port is another origin."""
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
def test_download_that_is_not_what_the_record_says_is_repeated(bad: httpx.Response, tmp_path: Path) -> None:
    """Changed, cut or broken off: again, from a fresh signed URL; the bytes of the first try leave no trace."""
    script = Script([job("succeeded", artifacts=model()), located(), bad, located(), whole()])
    in_hand(script).download("model", tmp_path / "mug.glb")
    assert (tmp_path / "mug.glb").read_bytes() == GLB
    assert [path.name for path in tmp_path.iterdir()] == ["mug.glb"]


@pytest.mark.parametrize(
    ("pieces", "kind"), [((b"other",), IntegrityError), ((b"gl", httpx.ReadError("reset")), NotReachable)]
)
def test_download_that_stays_wrong_leaves_the_old_file_alone(
    pieces: tuple[bytes | Exception, ...], kind: type[Exception], tmp_path: Path
) -> None:
    """After three tries an error, no temporary file, and whatever was there before."""
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


def test_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    """Only what is missing is asked for, as often as each try brings something; a pause before each."""
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
def test_store_that_does_not_go_on_is_read_from_the_beginning(answer: httpx.Response, tmp_path: Path) -> None:
    """A store may ignore Range: what came before is then forgotten, not doubled."""
    second = answer if answer.status_code == 206 else whole()
    script = Script([job("succeeded", artifacts=model()), located(), broken_off(GLB[:10]), located(), second])
    in_hand(script).download("model", tmp_path / "mug.glb")
    assert (tmp_path / "mug.glb").read_bytes() == GLB


def test_store_that_sends_too_much_is_not_listened_to_for_ever(tmp_path: Path) -> None:
    """One piece beyond the record's length is enough."""
    endless = [piece for _ in range(3) for piece in (located(), streamed(GLB, b"more", AssertionError("read on")))]
    script = Script([job("succeeded", artifacts=model()), *endless])
    with pytest.raises(IntegrityError):
        in_hand(script).download("model", tmp_path / "mug.glb")


def test_disk_that_is_full_keeps_nothing(tmp_path: Path) -> None:
    """The error is the disk's; what has come is removed, or it would stay full."""
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


def test_partial_download_that_is_kept_is_gone_on_with_by_the_next_call(tmp_path: Path) -> None:
    """Another process's as well: it lies beside the target, under a name of its sha256's, until it is whole."""
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


def test_partial_download_that_was_spoiled_is_begun_anew(tmp_path: Path) -> None:
    """The sha256 is over every byte, those of the last time too."""
    sha256 = model()["model"]["sha256"]
    (tmp_path / f".mug.glb.{sha256[:16]}.part").write_bytes(b"spoiled")
    script = Script([job("succeeded", artifacts=model()), located(), rest(7, GLB[7:]), located(), whole()])
    in_hand(script).download("model", tmp_path / "mug.glb", keep_partial=True)
    assert "Range" not in script.requests[-1].headers
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("mug.glb", GLB)]


def test_download_of_a_failed_job_says_why_there_is_nothing(tmp_path: Path) -> None:
    """The reason, not a missing key."""
    with pytest.raises(JobFailed):
        in_hand(Script([job("failed")])).download("model", tmp_path / "mug.glb")


# --- changing


def test_cancel_answers_with_the_job_as_it_stands() -> None:
    """Canceled, or ended before."""
    script = Script([job("running"), job("canceled")])
    handle = in_hand(script)
    assert handle.cancel().status == "canceled"
    assert handle.status == "canceled"
    assert script.lines[1] == "POST https://3d.example.com/v1/jobs/job_1/cancel"


def test_retry_is_not_repeated_after_an_answer_that_was_lost() -> None:
    """The first try may have queued the job; a second would be refused and hide that."""
    script = Script([job("failed"), httpx.ReadTimeout("silent")])
    with pytest.raises(NotReachable):
        in_hand(script).retry()
    with pytest.raises(ServiceFailed):
        in_hand(Script([job("failed"), problem(503)])).retry()


@pytest.mark.parametrize("harmless", [httpx.ConnectError("refused"), problem(429)], ids=repr)
def test_retry_is_repeated_where_it_cannot_have_happened(harmless: httpx.Response | Exception) -> None:
    """No connection, or refused for its rate."""
    script = Script([job("failed"), harmless, job("queued", code=202)])
    assert in_hand(script).retry().status == "queued"


def test_retry_of_a_job_that_goes_on_is_a_conflict() -> None:
    """The service's own words."""
    with pytest.raises(Conflict):
        in_hand(Script([job("running"), problem(409, "transition_refused")])).retry()


@pytest.mark.parametrize("answer", [httpx.Response(204), problem(404)], ids=["deleted", "gone already"])
def test_delete_leaves_nothing_whoever_did_it(answer: httpx.Response) -> None:
    """A lost answer and a second try look like `gone already`: no error."""
    script = Script([job("succeeded"), answer])
    in_hand(script).delete()
    assert script.lines[1] == "DELETE https://3d.example.com/v1/jobs/job_1"


def test_export_is_a_job_of_its_own_and_safe_to_repeat() -> None:
    """Only what was given travels; a lost answer is asked for again under the same key."""
    script = Script([job("succeeded"), httpx.ReadError("reset"), job("queued", code=202, id="job_2")])
    other = in_hand(script).export(preset="mobile", texture_size=512)
    assert other.id == "job_2"
    first, second = script.requests[1:]
    assert str(second.url) == "https://3d.example.com/v1/jobs/job_1/exports"
    assert json.loads(second.content) == {"preset": "mobile", "texture_size": 512}
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
