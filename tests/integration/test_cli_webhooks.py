"""`trellis2 webhooks` and `watch` against the real gateway, ledger, notifier and worker."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from infra.settings.service import Settings
from tests.integration.test_client import SMALL, House

PATIENCE_S = 60.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


PORT = free_port()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service that sends webhooks to one port of this machine."""
    folder = tmp_path_factory.mktemp("service")
    origin = f"http://127.0.0.1:{PORT}"
    settings = Settings(
        host="127.0.0.1", port=0, data_dir=folder, reconcile_interval_s=0.5, webhook_private_origins=(origin,)
    )
    running = House(settings)
    yield running
    running.service.stop()


def until(find: Callable[[], list[Any]]) -> list[Any]:
    """What is asked for again and again, once there is some of it."""
    ends_at = monotonic() + PATIENCE_S
    while not (found := find()):
        assert monotonic() < ends_at, "nothing came"
    return found


class Listener(Thread):
    """`trellis2 webhooks listen` until it has heard so many messages."""

    def __init__(self, house: House, count: int) -> None:
        super().__init__(daemon=True)
        self._house, self._count = house, count
        self.ended: tuple[int, list[Any], str] | None = None
        self.start()

    def run(self) -> None:
        """As the command line would."""
        self.ended = self._house.trellis2(
            "webhooks", "listen", "--port", str(PORT), "--count", str(self._count), "--events", "job.succeeded"
        )

    def endpoint(self) -> str:
        """Its endpoint, once there is one."""
        return str(until(lambda: self._house.trellis2("webhooks", "list")[1])[0]["id"])

    def heard(self) -> list[Any]:
        """What it printed."""
        self.join(PATIENCE_S)
        assert self.ended
        code, lines, _ = self.ended
        assert code == 0
        return lines


def test_listener_hears_a_test_a_jobs_end_and_that_end_again(house: House, tmp_path: Path) -> None:
    """Verified with the secret of its own endpoint, which is gone afterwards; a redelivery is called a repeat."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    listener = Listener(house, 3)
    endpoint_id = listener.endpoint()
    house.trellis2("webhooks", "test", endpoint_id)
    code, [made], _ = house.trellis2("generate", str(tmp_path / "mug.png"), "-o", str(tmp_path / "mug.glb"))
    assert code == 0
    asked = ("webhooks", "deliveries", "--job", made["id"], "--status", "delivered")
    sent = until(lambda: house.trellis2(*asked)[1])
    assert house.trellis2("webhooks", "redeliver", sent[0]["id"])[0] == 0
    heard = listener.heard()
    assert [(one["type"], one["repeat"]) for one in heard] == [
        ("webhook.test", False),
        ("job.succeeded", False),
        ("job.succeeded", True),
    ]
    assert heard[1]["data"]["id"] == heard[2]["data"]["id"] == made["id"]
    assert house.trellis2("webhooks", "list")[1] == []


def test_port_that_the_service_does_not_send_to_is_refused_with_what_mends_it(house: House) -> None:
    """Exit code 2, and nothing registered."""
    code, [line], complaint = house.trellis2("webhooks", "listen", "--port", "0")
    assert (code, line["error"]["code"]) == (2, "url_unreachable")
    assert "TRELLIS2_WEBHOOK_PRIVATE_ORIGINS" in complaint


def test_job_is_watched_to_its_end_and_gone_on_with(house: House, tmp_path: Path) -> None:
    """Every event once, with its id; another run goes on after one of them."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    _, [made], _ = house.trellis2("generate", str(tmp_path / "mug.png"), "--no-wait")
    code, events, _ = house.trellis2("watch", made["id"])
    assert (code, events[0]["type"], events[-1]["type"]) == (0, "queued", "succeeded")
    later = house.trellis2("watch", made["id"], "--after", events[1]["event"])[1]
    assert [one["event"] for one in later] == [one["event"] for one in events[2:]]


def test_retried_job_is_watched_past_its_first_end(house: House, tmp_path: Path) -> None:
    """The exit code is that of the last one."""
    (tmp_path / "mug.png").write_bytes(SMALL)
    argv = ("generate", str(tmp_path / "mug.png"), "--custom-id", "fails once", "-o", str(tmp_path))
    code, [failed], _ = house.trellis2(*argv)
    assert (code, failed["error"]["code"]) == (1, "no_object_found")
    assert house.trellis2("retry", failed["id"])[0] == 0
    code, events, _ = house.trellis2("watch", failed["id"])
    ends = [one["type"] for one in events if one["type"] in ("failed", "succeeded")]
    assert (code, ends) == (0, ["failed", "succeeded"])
    assert house.trellis2("get", failed["id"], "-o", str(tmp_path / "mug.glb"))[0] == 0
