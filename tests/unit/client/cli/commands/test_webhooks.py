"""`trellis2 webhooks`: manage endpoints, list deliveries, receive events on this machine."""

import json
import os
import signal
import socket
from _thread import interrupt_main
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import httpx
import pytest

from shared.repositories.webhooks import signed_headers
from tests.support.webhook_receivers import Receiver, Reply
from tests.unit.client.cli_runner import Shell, Terminal
from tests.unit.client.scripted_transport import Script, problem

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
AT = datetime(2026, 1, 1, tzinfo=UTC)
BODY = json.dumps({"type": "job.succeeded", "timestamp": "T", "data": {"id": "job_1", "status": "succeeded"}}).encode()
SIGNED = signed_headers([SECRET], "evt_1", AT, BODY)
ENDPOINT = {"id": "we_1", "url": "https://hooks.example.com/3d", "created_at": "2026-01-01T00:00:00Z"}
DELIVERY = {
    "id": "evt_1-we_1",
    "event_id": "evt_1",
    "type": "job.succeeded",
    "state": "failed",
    "job_id": "job_1",
    "occurred_at": "2026-01-01T00:00:00Z",
    "attempts": [{"at": "2026-01-01T00:00:00Z", "status": 500, "duration_ms": 3, "answer": "no"}],
}


def listed(*bodies: dict[str, Any]) -> httpx.Response:
    """A response with a list."""
    return httpx.Response(200, json={"data": bodies, "next_cursor": None})


# --- endpoints and deliveries


def test_create_prints_only_the_secret() -> None:
    """So that a script can store it; the endpoint is named on stderr."""
    shell = Shell(Script([httpx.Response(201, json=ENDPOINT | {"secret": SECRET})]))
    argv = ("create", "https://hooks.example.com/3d", "--events", "job.failed, job.expired", "--description", "mine")
    assert shell.run("webhooks", *argv) == 0
    assert shell.out.getvalue() == SECRET + "\n"
    assert shell.err.getvalue().startswith(
        "trellis2: we_1 for https://hooks.example.com/3d; the next line is its secret"
    )
    assert json.loads(shell.script.requests[0].content) == {
        "url": "https://hooks.example.com/3d",
        "description": "mine",
        "events": ["job.failed", "job.expired"],
    }


def test_create_without_a_response_is_not_repeated() -> None:
    """A second request could create a second endpoint."""
    shell = Shell(Script([httpx.ReadError("reset")]))
    assert shell.run("webhooks", "create", "https://hooks.example.com/3d") == 3


def test_list_shows_the_state_of_endpoints() -> None:
    """Active, failing, or disabled with the reason."""
    failing = {"id": "we_2", "failing_since": "2026-01-02T03:04:00Z", "description": "shop"}
    disabled = {"id": "we_3", "disabled_at": "2026-01-02T03:04:00Z", "disabled_because": "gone"}
    shell = Shell(Script([listed(ENDPOINT, ENDPOINT | failing, ENDPOINT | disabled)]))
    assert shell.run("webhooks", "list") == 0
    assert shell.out.getvalue().splitlines() == [
        "we_1  active  https://hooks.example.com/3d",
        "we_2  failing since 2026-01-02 03:04  https://hooks.example.com/3d  shop",
        "we_3  disabled, gone  https://hooks.example.com/3d",
    ]


@pytest.mark.parametrize(
    ("argv", "answer", "request_line", "line"),
    [
        (["delete", "we_1"], httpx.Response(204), "DELETE /v1/webhook-endpoints/we_1", "we_1 deleted"),
        (
            ["enable", "we_1"],
            httpx.Response(200, json=ENDPOINT),
            "PATCH /v1/webhook-endpoints/we_1",
            "we_1  active  https://hooks.example.com/3d",
        ),
        (
            ["test", "we_1"],
            httpx.Response(202, json=DELIVERY),
            "POST /v1/webhook-endpoints/we_1/test",
            "evt_1-we_1",
        ),
        (
            ["rotate-secret", "default"],
            httpx.Response(200, json={"id": "default", "secret": SECRET}),
            "POST /v1/webhook-endpoints/default/rotate-secret",
            SECRET,
        ),
        (
            ["redeliver", "evt_1-we_1"],
            httpx.Response(202, json=DELIVERY | {"state": "pending"}),
            "POST /v1/webhook-deliveries/evt_1-we_1/redeliver",
            "evt_1-we_1 pending",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_operation_on_endpoints_or_deliveries(
    argv: list[str], answer: httpx.Response, request_line: str, line: str
) -> None:
    """An unknown id is reported, and the next one is processed."""
    shell = Shell(Script([problem(404, "endpoint_not_found"), answer]))
    assert shell.run("webhooks", argv[0], "we_0", *argv[1:]) == 2
    assert shell.out.getvalue() == line + "\n"
    assert "we_0: It is so.; `trellis2 webhooks list` lists yours" in shell.err.getvalue()
    assert shell.script.lines[1].replace("https://3d.example.com", "") == request_line


def test_deliveries_are_a_table_on_a_terminal_and_fields_in_a_pipe() -> None:
    """Time, event, job, state, number of tries and last response."""
    shell = Shell(Script([listed(DELIVERY)]), now=datetime(2026, 1, 1, 0, 5, tzinfo=UTC))
    assert shell.run("webhooks", "deliveries", "--job", "job_1", "--status", "failed") == 0
    assert shell.out.getvalue() == "2026-01-01T00:00:00Z\tjob.succeeded\tjob_1\tfailed\t1\t500\tevt_1-we_1\n"
    assert shell.script.lines[0].endswith("/v1/webhook-deliveries?limit=20&job=job_1&status=failed")
    shell = Shell(Script([listed(DELIVERY)]), now=datetime(2026, 1, 1, 0, 5, tzinfo=UTC))
    shell.out = Terminal()
    assert shell.run("webhooks", "deliveries") == 0
    head, row = shell.out.getvalue().splitlines()
    assert head.split() == ["AGE", "EVENT", "JOB", "STATE", "TRIES", "LAST", "DELIVERY"]
    assert row.split() == ["5", "min", "job.succeeded", "job_1", "failed", "1", "500", "evt_1-we_1"]


# --- listen


class Service(Script):
    """Registers every endpoint, then calls `sends` with its URL in a thread."""

    def __init__(self, sends: Callable[[str], object], left: dict[str, Any] | None = None) -> None:
        self.registered: list[dict[str, Any]] = [left] if left else []
        self.sends = sends
        self.url = ""
        super().__init__([self.answer], forever=True)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Respond as the service does."""
        if request.method == "GET":
            return listed(*self.registered)
        if request.method == "DELETE":
            self.registered = [known for known in self.registered if not request.url.path.endswith(known["id"])]
            return httpx.Response(204)
        endpoint = ENDPOINT | json.loads(request.content) | {"id": f"we_{len(self.requests)}"}
        self.registered.append(endpoint)
        self.url = endpoint["url"]
        Thread(target=self.sends, args=(endpoint["url"],), daemon=True).start()
        return httpx.Response(201, json=endpoint | {"secret": SECRET})


def posting(*messages: tuple[bytes, dict[str, str]], answers: list[int] | None = None) -> Callable[[str], None]:
    """Make a function that sends messages to a URL in order and keeps the statuses of the responses."""

    def send(url: str) -> None:
        for body, headers in messages:
            status = httpx.post(url, content=body, headers=headers, trust_env=False).status_code
            if answers is not None:
                answers.append(status)

    return send


def test_messages_are_verified_and_repeats_are_marked() -> None:
    """A line has time, type, job, status and id; a message without a valid signature is refused."""
    service = Service(posting((BODY, SIGNED), (BODY, SIGNED), (BODY + b" ", SIGNED)))
    shell = Shell(service, now=AT)
    assert shell.run("webhooks", "listen", "--port", "0", "--count", "3", "--events", "job.succeeded") == 0
    assert [line[10:] for line in shell.out.getvalue().splitlines()] == [
        "job.succeeded  job_1  succeeded  evt_1",
        "job.succeeded  job_1  succeeded  evt_1  again",
        "refused: no signature matches",
    ]


def test_endpoint_is_removed_at_the_end_and_a_left_one_at_the_start() -> None:
    """Other endpoints are kept."""
    port = free_port()
    left = ENDPOINT | {"id": "we_old", "url": f"http://127.0.0.1:{port}/", "description": "trellis2 webhooks listen"}
    service = Service(posting((BODY, SIGNED)), left)
    service.registered.append(ENDPOINT)
    shell = Shell(service, now=AT)
    assert shell.run("webhooks", "listen", "--port", str(port), "--count", "1") == 0
    assert service.registered == [ENDPOINT]
    assert (
        shell.err.getvalue()
        == f"trellis2: the service sends the event of every job that ends to http://127.0.0.1:{port}/ until Ctrl-C\n"
    )


def test_as_json_a_message_is_one_line() -> None:
    """With all its fields."""
    shell = Shell(Service(posting((BODY, SIGNED))), now=AT)
    assert shell.run("webhooks", "listen", "--port", "0", "--count", "1", "--json") == 0
    assert shell.json_lines == [
        {
            "received_at": "2026-01-01T00:00:00+00:00",
            "repeat": False,
            "id": "evt_1",
            "type": "job.succeeded",
            "timestamp": "T",
            "data": {"id": "job_1", "status": "succeeded"},
        }
    ]


def test_messages_are_forwarded_unchanged_and_the_response_is_returned() -> None:
    """Byte for byte, with the signature, so that the service retries after a failed response.

    A message without a valid signature is not forwarded.
    """
    receiver = Receiver(Reply(status=500))
    answers: list[int] = []
    service = Service(posting((b"forged", SIGNED), (BODY, SIGNED), (BODY, SIGNED), answers=answers))
    shell = Shell(service, now=AT)
    argv = ("webhooks", "listen", "--port", "0", "--count", "3", "--forward-to", f"{receiver.origin}/3d")
    assert shell.run(*argv) == 0
    assert [request.path for request in receiver.requests] == ["/3d", "/3d"]
    assert receiver.requests[0].body == BODY
    assert receiver.requests[0].headers | SIGNED == receiver.requests[0].headers
    assert "  -> 500, " in shell.out.getvalue().splitlines()[1]
    assert answers[:2] == [400, 500]
    receiver.close()


def test_unreachable_receiver_is_a_failure_for_the_service() -> None:
    """502, so that the service retries."""
    answers: list[int] = []
    shell = Shell(Service(posting((BODY, SIGNED), (BODY, SIGNED), answers=answers)), now=AT)
    argv = ("listen", "--port", "0", "--count", "2", "--forward-to", f"http://127.0.0.1:{free_port()}/")
    assert shell.run("webhooks", *argv) == 0
    assert "-> no answer, " in shell.out.getvalue()
    assert answers[0] == 502


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("interrupt", [lambda number: os.kill(os.getpid(), number), interrupt_main])
def test_signal_removes_the_endpoint(interrupt: Callable[[int], None], number: signal.Signals) -> None:
    """Ctrl-C from a user, SIGTERM from a script; during a wait, and by `interrupt_main` as if just before one."""

    def send(url: str) -> None:
        posting((BODY, SIGNED))(url)
        interrupt(number)

    service = Service(send)
    assert Shell(service, now=AT).run("webhooks", "listen", "--port", "0") == 0
    assert service.registered == []


def test_signal_before_the_response_removes_the_endpoint() -> None:
    """By its URL, because its id is unknown."""

    def lose_response(request: httpx.Request) -> httpx.Response:
        answer = service.answer(request)
        if request.method == "POST":
            raise KeyboardInterrupt
        return answer

    service = Service(lambda _: None)
    service.answers = [lose_response]
    assert Shell(service, now=AT).run("webhooks", "listen", "--port", "0") == 0
    assert service.registered == []


def test_refused_url_names_a_solution() -> None:
    """On this machine the setting, on the internet the accepted URLs."""
    refusal = problem(422, "url_unreachable", errors=[{"pointer": "/url", "detail": "It is so."}])
    shell = Shell(Script([listed(), refusal, listed()]))
    port = free_port()
    assert shell.run("webhooks", "listen", "--port", str(port)) == 2
    assert f"TRELLIS2_WEBHOOK_PRIVATE_ORIGINS='[\"http://127.0.0.1:{port}\"]'" in shell.err.getvalue()
    assert "--public-url" in shell.err.getvalue()
    shell = Shell(Script([listed(), refusal, listed()]))
    assert shell.run("webhooks", "listen", "--port", "0", "--public-url", "http://hooks.example.com/", "--json") == 2
    assert "it must be https, on port 443" in shell.json_lines[0]["error"]["detail"]


def test_with_a_secret_nothing_is_registered() -> None:
    """From the environment, which other users cannot see; there is no request to the service."""
    shell = Shell(Script([]), environment={"TRELLIS2_WEBHOOK_SECRET": SECRET}, now=AT)
    port = free_port()

    def send() -> None:
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport, trust_env=False) as client:
            client.post(f"http://127.0.0.1:{port}/", content=BODY, headers=SIGNED)

    Thread(target=send, daemon=True).start()
    assert shell.run("webhooks", "listen", "--port", str(port), "--count", "1") == 0
    assert "job.succeeded  job_1" in shell.out.getvalue()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--secret", "nonsense!"], "a webhook secret is `whsec_` and base64"),
        (["--forward-to", "localhost:3000"], "'localhost:3000' is not an http or https URL"),
        (["--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_invalid_arguments_are_refused_in_one_line(argv: list[str], message: str) -> None:
    """Before any request."""
    shell = Shell(Script([]))
    with pytest.raises(SystemExit):
        shell.run("webhooks", "listen", *argv)
    assert message in shell.err.getvalue()
    assert shell.err.getvalue().count("\n") == 1


def test_port_in_use_is_refused() -> None:
    """With the option that selects another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shell = Shell(Script([]))
        assert shell.run("webhooks", "listen", "--port", str(port)) == 2
    assert shell.err.getvalue() == f"trellis2: port {port}: Address already in use; choose another with --port\n"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
