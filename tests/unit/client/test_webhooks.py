"""The verifier for receivers, against the service's signatures and the standard's own library."""

import importlib.util
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from trellis2_modal.webhooks import WebhookInvalid, verify

from shared.repositories.webhooks import new_secret, signed_headers
from tests.support.gateway_harness import LOCAL, Client

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
AT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
BODY = json.dumps(
    {"type": "job.succeeded", "timestamp": "2026-01-05T09:29:59Z", "data": {"id": "job_1", "custom_id": "mug"}}
).encode()
HEADERS = signed_headers([SECRET], "evt_1_0", AT, BODY)
EXAMPLES = Path(__file__).parents[3] / "docs/examples"


def seconds(at: datetime) -> Callable[[], float]:
    return at.timestamp


def test_message_of_the_service_is_verified() -> None:
    """With header names in any case; the event has the body's fields."""
    event = verify(BODY, {name.title(): value for name, value in HEADERS.items()}, SECRET, clock=seconds(AT))
    assert (event.id, event.type, event.data["id"]) == ("evt_1_0", "job.succeeded", "job_1")
    assert event.occurred_at == datetime(2026, 1, 5, 9, 29, 59, tzinfo=UTC)


def test_message_of_the_standards_library_is_verified() -> None:
    """The library signs."""
    signature = Verifier(SECRET).sign(msg_id="msg_1", timestamp=AT, data=BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(AT.timestamp())), "webhook-signature": signature}
    assert verify(BODY, headers, SECRET, clock=seconds(AT)).id == "msg_1"


def test_during_rotation_either_secret_verifies() -> None:
    """A message has two signatures then."""
    fresh = new_secret()
    headers = signed_headers([fresh, SECRET], "evt_1_0", AT, BODY)
    for secret in (fresh, SECRET):
        assert verify(BODY, headers, secret, clock=seconds(AT)).id == "evt_1_0"


@pytest.mark.parametrize("late_s", [-301, 301, 86_400])
def test_fault_17_replayed_message_is_refused(late_s: float) -> None:
    """Clocks may differ by five minutes; a later replay is refused."""
    with pytest.raises(WebhookInvalid):
        verify(BODY, HEADERS, SECRET, clock=lambda: AT.timestamp() + late_s)


@pytest.mark.parametrize(
    "altered",
    [
        (BODY + b" ", HEADERS),
        (BODY.replace(b"mug", b"cup"), HEADERS),
        (BODY, HEADERS | {"webhook-id": "evt_2_0"}),
        (BODY, HEADERS | {"webhook-timestamp": str(int(AT.timestamp()) + 1)}),
        (BODY, HEADERS | {"webhook-signature": HEADERS["webhook-signature"].replace("v1", "v2")}),
        (BODY, HEADERS | {"webhook-signature": ""}),
        (BODY, HEADERS | {"webhook-signature": "v1,"}),
        (BODY, HEADERS | {"webhook-signature": "v1,\xe9"}),
        (BODY, HEADERS | {"webhook-timestamp": "soon"}),
        (BODY, {}),
        (b"not json", signed_headers([SECRET], "evt_1_0", AT, b"not json")),
    ],
)
def test_fault_17_altered_message_is_refused(altered: tuple[bytes, dict[str, str]]) -> None:
    """Body, id, time or signature; also a body that is not a message."""
    with pytest.raises(WebhookInvalid):
        verify(*altered, SECRET, clock=seconds(AT))


def test_fault_17_message_of_an_old_secret_is_refused() -> None:
    """After the rotation."""
    with pytest.raises(WebhookInvalid):
        verify(BODY, HEADERS, new_secret(), clock=seconds(AT))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!"])
def test_invalid_secret_is_a_value_error(secret: str) -> None:
    """Not WebhookInvalid: it is the receiver's mistake."""
    with pytest.raises(ValueError, match="secret"):
        verify(BODY, HEADERS, secret, clock=seconds(AT))


def example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, list[str]]:
    """Run an example receiver; list the ids of the jobs that it processes."""
    monkeypatch.setenv("RECEIVER_DATABASE", str(folder / "seen.sqlite3"))
    monkeypatch.setenv("TRELLIS2_WEBHOOK_SECRET", SECRET)
    found = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    handled: list[str] = []
    monkeypatch.setattr(module, "handle", lambda event: handled.append(event.data["id"]))
    return module, handled


@pytest.mark.parametrize("name", ["receiver_fastapi", "receiver_flask"])
def test_example_receiver_processes_an_event_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is sent again after a restart; an unsigned message gets 400."""
    headers = signed_headers([SECRET], "evt_1_0", datetime.now(UTC), BODY)
    worked: list[str] = []
    for _ in range(2):
        module, handled = example(name, tmp_path, monkeypatch)
        is_asgi = name == "receiver_fastapi"
        client: Any = Client(module.app, base_url=LOCAL, address="127.0.0.1") if is_asgi else module.app.test_client()
        sent = "content" if is_asgi else "data"
        for _ in range(2):
            assert client.post("/hook", headers=headers, **{sent: BODY}).status_code == 204
        assert client.post("/hook", headers=headers, **{sent: BODY + b" "}).status_code == 400
        worked += handled
    assert worked == ["job_1"]


@pytest.mark.parametrize("name", ["receiver_fastapi", "receiver_flask"])
def test_example_receiver_that_fails_gets_the_event_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is recorded only with its result."""
    module, handled = example(name, tmp_path, monkeypatch)
    event = verify(BODY, HEADERS, SECRET, clock=seconds(AT))

    def fail(_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as today:
        today.setattr(module, "handle", fail)
        with pytest.raises(OSError, match="full"):
            module.handle_once(event)
    module.handle_once(event)
    assert handled == ["job_1"]
