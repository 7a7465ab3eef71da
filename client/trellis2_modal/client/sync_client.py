"""The blocking client: the methods of the async one, run without an event loop."""

import time
from collections.abc import Callable
from typing import Self

import httpx

from trellis2_modal._http import TRIES, Connection
from trellis2_modal._sync import SyncFacade, sync_iterator, sync_iterator_as, sync_method, sync_method_as
from trellis2_modal._transport import SyncTransport
from trellis2_modal.client.async_client import LOCAL_URL, AsyncClient, FromEnvironment
from trellis2_modal.client.credentials import headers
from trellis2_modal.resources.batches import BatchHandle
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.resources.webhooks import Webhooks


class Client(FromEnvironment, SyncFacade[AsyncClient]):
    """A client of one service. Safe from any thread; close it, or use it in a `with`.

        with Client("https://3d.example.com", api_key="t2_...") as client:
            job = client.submit("mug.png", preset="web")
            job.wait()
            job.download("model", "mug.glb")

    Every request is sent up to `tries` times: after lost connections and 429, 502, 503 and 504, with backoff, jitter
    and Retry-After. A retry never creates a second job, because every submit has an Idempotency-Key.
    """

    def __init__(
        self,
        base_url: str = LOCAL_URL,
        api_key: str | None = None,
        *,
        modal_key: str | None = None,
        modal_secret: str | None = None,
        tries: int = TRIES,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`api_key` is the service's; `modal_key` and `modal_secret` are for Modal's proxy authentication.

        `transport` is httpx's. `clock` returns seconds, `pause` sleeps for seconds.
        """
        auth = headers(api_key, modal_key, modal_secret)
        connection = Connection(base_url, auth, SyncTransport(transport, pause), tries=tries)
        super().__init__(AsyncClient.from_connection(connection, clock))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def webhooks(self) -> Webhooks:
        """Your webhook endpoints, and the deliveries to them."""
        return Webhooks(self._async.webhooks)

    close = sync_method(AsyncClient.close)
    submit = sync_method_as(JobHandle, AsyncClient.submit)
    get = sync_method_as(JobHandle, AsyncClient.get)
    list = sync_iterator_as(JobHandle, AsyncClient.list)
    wait = sync_method(AsyncClient.wait)
    stream = sync_iterator(AsyncClient.stream)
    export = sync_method_as(JobHandle, AsyncClient.export)
    submit_batch = sync_method_as(BatchHandle, AsyncClient.submit_batch)
    batch = sync_method_as(BatchHandle, AsyncClient.batch)
    get_batch = sync_method_as(BatchHandle, AsyncClient.get_batch)
    list_batches = sync_iterator_as(BatchHandle, AsyncClient.list_batches)
