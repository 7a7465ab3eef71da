"""The cost of a minute without work: every call to Modal and every request to the bucket."""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.fleet.control_plane.server import ControlPlane
from bench.fleet.modal_fleet import new_queue_name, notifier_function, worker_function
from bench.support.ceph import Ceph, on_ceph
from bench.support.fault_proxy import FaultProxy
from infra.modal_app import functions
from infra.settings.modal import ModalSettings
from shared.storage import keys
from tests.contract.adapters import make_bucket

BUCKET = "idle"
HALF_HOURLY = {f"LIST {prefix}" for prefix in (keys.UPLOADS, keys.IDEMPOTENCY, keys.BLOCKED, keys.WEBHOOK_DELIVERIES)}
pytestmark = on_ceph


@pytest.fixture
def bucket(
    control_plane: ControlPlane,  # noqa: ARG001 - what the functions of the app would ask
    ceph: Ceph,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FaultProxy]:
    """The variables of a deployment's containers; their bucket is behind a proxy that records every request."""
    make_bucket(ceph, BUCKET)
    options = ceph.options(BUCKET)
    with FaultProxy(ceph.http_url) as proxy:
        monkeypatch.setenv("TRELLIS2_APP_NAME", new_queue_name())
        for name, value in ModalSettings().environment().items():
            monkeypatch.setenv(name, str(value))
        secret = {
            "BUCKET": BUCKET,
            "S3_ENDPOINT": proxy.url,
            "S3_REGION": options.region,
            "S3_ACCESS_KEY": options.access_key,
            "S3_SECRET_KEY": options.secret_key,
            "S3_ADDRESSING": options.addressing,
        }
        for name, value in secret.items():
            monkeypatch.setenv(f"TRELLIS2_{name}", str(value))
        functions.settings.cache_clear()
        yield proxy
        functions.settings.cache_clear()


def a_minute(proxy: FaultProxy) -> list[str]:
    """What the three functions with a cron do, each in a container that has just started; the requests in order."""
    proxy.calls.clear()
    functions.reconcile(worker_function(), notifier_function())
    functions.schedule(worker_function(), notifier_function())
    functions.notify()
    return [request(method, url) for method, url in proxy.calls]


def request(method: str, url: str) -> str:
    """Method and key, or what is listed."""
    parts = urlsplit(url)
    listed = parse_qs(parts.query).get("prefix", [""])[0]
    return f"LIST {listed}" if "list-type" in parts.query else f"{method} {parts.path.removeprefix(f'/{BUCKET}/')}"


def test_an_idle_minute_costs_the_bucket_ten_requests(bucket: FaultProxy) -> None:
    """Seven lists of what is empty, and the note of the day's probe once for each container; the first one probes."""
    a_minute(bucket)
    assert Counter(one for one in a_minute(bucket) if one not in HALF_HOURLY) == {
        "GET probe/capabilities.json": 3,
        "LIST pending/": 1,
        "LIST running/": 1,
        "LIST expiring/": 1,
        "LIST pending-batches/": 2,
        "LIST expiring-batches/": 1,
        "LIST outbox/": 1,
    }


def test_an_idle_minute_asks_nothing_of_modal(control_plane: ControlPlane, bucket: FaultProxy) -> None:
    """No input for a worker, so no GPU, and no call to the empty queue."""
    a_minute(bucket)
    assert control_plane.spawned == {}
    assert control_plane.calls == {}
