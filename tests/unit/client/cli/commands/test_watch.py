"""`trellis2 watch`: follow jobs and batches on a terminal, in a pipe, as JSON."""

from typing import Any

import httpx
import pytest

from tests.unit.client.cli.commands.test_batch import COUNTS, batch, completed, planned
from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.scripted_transport import Script, event, job, job_body, problem, streamed

ENDED = {"started_at": "2026-01-01T00:00:01Z", "finished_at": "2026-01-01T00:00:03.5Z", "cost_usd": 0.0262}
EVENTS = (
    event(1, "queued", "queued", queue_position=2),
    event(2, "running", "started"),
    event(3, "running", "progress", stage="shape", progress=0.4),
    event(4, "running", "preview", stage="shape", progress=0.5, preview="data:image/webp;base64,AA=="),
    event(5, "succeeded", "succeeded", progress=1.0, **ENDED),
)


def page(*bodies: dict[str, Any]) -> httpx.Response:
    """A response with a list."""
    return httpx.Response(200, json={"data": bodies, "next_cursor": None})


def test_in_a_pipe_each_new_phase_is_a_line() -> None:
    """No control characters; nothing on stderr."""
    shell = Shell(Script([job(), streamed(*EVENTS)]))
    assert shell.run("watch", "job_1") == 0
    assert shell.out.getvalue().splitlines() == [
        "job_1: queued, 2 before",
        "job_1: starting",
        "job_1: shape",
        "job_1: succeeded",
    ]
    assert shell.err.getvalue() == ""


def test_as_json_each_event_is_a_line() -> None:
    """With the id to continue after; a preview is a field of the event, not of the job."""
    shell = Shell(Script([job(), streamed(*EVENTS)]))
    assert shell.run("watch", "job_1", "--json") == 0
    assert [(line["event"], line["type"]) for line in shell.json_lines] == [
        ("1", "queued"),
        ("2", "started"),
        ("3", "progress"),
        ("4", "preview"),
        ("5", "succeeded"),
    ]
    assert shell.json_lines[3]["preview"] == "data:image/webp;base64,AA=="
    assert shell.json_lines[3]["job"] == job_body("running", stage="shape", progress=0.5)


def test_on_a_terminal_a_bar_is_drawn_and_the_result_stays() -> None:
    """The bar on stderr, the result on stdout in one line."""
    shell = Shell(Script([job(), streamed(*EVENTS)]), err=Terminal())
    shell.out = Terminal()
    assert shell.run("watch", "job_1") == 0
    assert "\rjob_1  shape             [############------------------]  40%  0:00" in shell.err.getvalue()
    assert shell.out.getvalue() == "job_1  succeeded, 2.5 s, $0.0262\n"


def test_after_continues_after_an_event() -> None:
    """Its id is sent as Last-Event-ID; it needs exactly one job."""
    shell = Shell(Script([job(), streamed(*EVENTS[3:])]))
    assert shell.run("watch", "job_1", "--after", "3", "--json") == 0
    assert shell.script.requests[1].headers["Last-Event-ID"] == "3"
    with pytest.raises(SystemExit):
        shell.run("watch", "job_1", "job_2", "--after", "3")


def test_broken_stream_is_resumed() -> None:
    """No event is printed twice."""
    shell = Shell(Script([job(), streamed(*EVENTS[:2], httpx.ReadError("reset")), streamed(*EVENTS[2:])]))
    assert shell.run("watch", "job_1", "--json") == 0
    assert [line["event"] for line in shell.json_lines] == ["1", "2", "3", "4", "5"]
    assert shell.script.requests[2].headers["Last-Event-ID"] == "2"


def test_service_behind_a_proxy_that_does_not_stream_is_polled() -> None:
    """The lines are the same, without ids."""
    page_of_a_proxy = httpx.Response(200, html="<html>")
    answers = [job(), page_of_a_proxy, page_of_a_proxy, job("running", stage="shape"), job("succeeded")]
    shell = Shell(Script(answers))
    assert shell.run("watch", "job_1", "--json") == 0
    assert [line["type"] for line in shell.json_lines] == ["queued", "progress", "succeeded"]


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        ("failed", 1, "trellis2: job_1: failed: nothing stands out"),
        ("canceled", 4, "trellis2: job_1: canceled"),
        ("expired", 1, "trellis2: job_1: expired"),
    ],
)
def test_failure_has_its_exit_code_and_message(status: str, code: int, line: str) -> None:
    """The message on stderr."""
    error = {"code": "no_object_found", "detail": "nothing stands out", "retryable": False}
    more = {"error": error} if status == "failed" else {}
    shell = Shell(Script([job(), streamed(event(1, status, status, **more))]))
    assert shell.run("watch", "job_1") == code
    assert shell.err.getvalue().splitlines() == [line]


def test_unknown_job_is_reported_by_id() -> None:
    """With the command that lists jobs."""
    shell = Shell(Script([problem(404, "job_not_found")]))
    assert shell.run("watch", "job_0") == 2
    assert shell.err.getvalue() == "trellis2: job_0: It is so.; `trellis2 jobs` lists yours\n"


def test_without_ids_all_unfinished_jobs_are_followed() -> None:
    """And batches, in place of their jobs."""
    running = {"id": "batch_1", "status": "running", "created_at": "2026-01-01T00:00:00Z", "counts": COUNTS}
    answers = [
        page(running | {"status": "completed"}),
        page(job_body(), job_body(id="job_2", batch_id="batch_1")),
        page(),
        job(),
        streamed(*EVENTS),
    ]
    shell = Shell(Script(answers))
    assert shell.run("watch") == 0
    assert shell.out.getvalue().splitlines()[-1] == "job_1: succeeded"
    assert shell.script.answers == []


def test_without_unfinished_jobs_it_exits() -> None:
    """With a message."""
    shell = Shell(Script([page(), page(), page()]))
    assert shell.run("watch") == 0
    assert shell.err.getvalue() == "trellis2: no unfinished jobs or batches\n"


def test_batch_is_followed_by_its_counts() -> None:
    """It reports that confirmation is needed; failed rows set the exit code."""
    shell = Shell(Script([planned(), planned(), batch("running"), completed()]))
    assert shell.run("watch", "batch_1") == 1
    assert shell.out.getvalue().splitlines() == [
        "batch_1: awaiting confirmation: 2 queued, 1 failed of 3",
        "batch_1: running: 2 queued, 1 failed of 3",
        "batch_1: completed: 2 succeeded, 1 failed of 3",
    ]
    assert shell.err.getvalue().splitlines() == [
        "trellis2: batch_1 waits for confirmation: trellis2 batch confirm batch_1",
        "trellis2: batch_1: completed: 2 succeeded, 1 failed of 3",
    ]


def test_batch_on_a_terminal_has_a_bar() -> None:
    """Its length is the share of rows that have ended."""
    shell = Shell(Script([batch("running"), completed(failed=0)]), err=Terminal())
    shell.out = Terminal()
    assert shell.run("watch", "batch_1") == 0
    assert "\rbatch_1  1 of 3, 1 failed  [##########--------------------]  33%" in shell.err.getvalue()
    assert shell.out.getvalue() == "batch_1  completed: 2 succeeded of 3\n"


def interrupt(_: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


def test_ctrl_c_cancels_no_job() -> None:
    """It only stops watching."""
    shell = Shell(Script([job(), interrupt]))
    assert shell.run("watch", "job_1") == 4
    assert shell.err.getvalue() == "trellis2: interrupted; the jobs continue\n"
    assert len(shell.script.requests) == 2
