"""`trellis2 webhooks` and `watch` against the real gateway, job repository, notifier and worker."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from infra.settings.service import Settings
from tests.integration.test_client import SMALL, LocalService

HANG_S = 600.0  # ends a test that hangs; no test depends on how fast the machine is


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


PORT = free_port()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """A service that sends webhooks to one port of this machine."""
    folder = tmp_path_factory.mktemp("service")
    origin = f"http://127.0.0.1:{PORT}"
    settings = Settings(
        host="127.0.0.1", port=0, data_dir=folder, reconcile_interval_s=0.5, webhook_private_origins=(origin,)
    )
    running = LocalService(settings)
    yield running
    running.service.stop()


def poll(find: Callable[[], list[Any]]) -> list[Any]:
    """Poll until the list is not empty."""
    ends_at = monotonic() + HANG_S
    while not (items := find()):
        assert monotonic() < ends_at, "the list stays empty"
    return items


class Listener(Thread):
    """Runs `trellis2 webhooks listen` for `count` messages."""

    def __init__(self, service: LocalService, count: int) -> None:
        super().__init__(daemon=True)
        self._house, self._count = service, count
        self.result: tuple[int, list[Any], str] | None = None
        self.start()

    def run(self) -> None:
        """Run the command."""
        self.result = self._house.trellis2(
            "webhooks", "listen", "--port", str(PORT), "--count", str(self._count), "--events", "job.succeeded"
        )

    def endpoint(self) -> str:
        """Wait for its endpoint; the endpoint's id."""
        return str(poll(lambda: self._house.trellis2("webhooks", "list")[1])[0]["id"])

    def messages(self) -> list[Any]:
        """Wait for its end; the printed messages."""
        self.join(HANG_S)
        assert self.result
        code, lines, _ = self.result
        assert code == 0
        return lines


def test_listener_receives_a_test_a_jobs_event_and_its_redelivery(service: LocalService, tmp_path: Path) -> None:
    """Verified with its endpoint's secret; a redelivery is marked, and the endpoint is removed."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    listener = Listener(service, 3)
    endpoint_id = listener.endpoint()
    service.trellis2("webhooks", "test", endpoint_id)
    code, [job], _ = service.trellis2("generate", str(tmp_path / "mug.png"), "-o", str(tmp_path / "mug.glb"))
    assert code == 0
    query = ("webhooks", "deliveries", "--job", job["id"], "--status", "delivered")
    sent = poll(lambda: service.trellis2(*query)[1])
    assert service.trellis2("webhooks", "redeliver", sent[0]["id"])[0] == 0
    messages = listener.messages()
    assert [(message["type"], message["repeat"]) for message in messages] == [
        ("webhook.test", False),
        ("job.succeeded", False),
        ("job.succeeded", True),
    ]
    assert messages[1]["data"]["id"] == messages[2]["data"]["id"] == job["id"]
    assert service.trellis2("webhooks", "list")[1] == []


def test_refused_port_names_the_setting(service: LocalService) -> None:
    """Exit code 2, and nothing is registered."""
    code, [line], errors = service.trellis2("webhooks", "listen", "--port", "0")
    assert (code, line["error"]["code"]) == (2, "url_unreachable")
    assert "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS" in errors


def test_job_is_watched_to_its_end(service: LocalService, tmp_path: Path) -> None:
    """Every event once, with its id; `--after` continues after one of them."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    _, [job], _ = service.trellis2("generate", str(tmp_path / "mug.png"), "--no-wait")
    code, events, _ = service.trellis2("watch", job["id"])
    assert (code, events[0]["type"], events[-1]["type"]) == (0, "queued", "succeeded")
    later = service.trellis2("watch", job["id"], "--after", events[1]["event"])[1]
    assert [event["event"] for event in later] == [event["event"] for event in events[2:]]


def test_retried_job_is_watched_past_its_first_end(service: LocalService, tmp_path: Path) -> None:
    """The exit code is that of the last run."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    argv = ("generate", str(tmp_path / "mug.png"), "--custom-id", "fails once", "-o", str(tmp_path))
    code, [failed], _ = service.trellis2(*argv)
    assert (code, failed["error"]["code"]) == (1, "no_object_found")
    assert service.trellis2("retry", failed["id"])[0] == 0
    code, events, _ = service.trellis2("watch", failed["id"])
    ends = [event["type"] for event in events if event["type"] in ("failed", "succeeded")]
    assert (code, ends) == (0, ["failed", "succeeded"])
    assert service.trellis2("get", failed["id"], "-o", str(tmp_path / "mug.glb"))[0] == 0
