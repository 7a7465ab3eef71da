"""The client, blocking: the same as the awaited one, run to the end on the spot."""

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from trellis2_modal._http import TRIES, Connection
from trellis2_modal._sync import SyncFacade, blocking, blocking_as, iterating, iterating_as
from trellis2_modal._transport import SyncTransport
from trellis2_modal.client.async_client import LOCAL_URL, AsyncClient, options_of
from trellis2_modal.client.credentials import headers
from trellis2_modal.resources.batches import BatchHandle
from trellis2_modal.resources.jobs import JobHandle
from trellis2_modal.resources.webhooks import Webhooks


class Client(SyncFacade[AsyncClient]):
    """Talks to one service. Safe from any thread; close it, or use it in a `with`.

        with Client("https://3d.example.com", api_key="t2_...") as client:
            job = client.submit("mug.png", preset="web")
            job.wait()
            job.download("model", "mug.glb")

    Every call is tried up to `tries` times: on lost connections and on 429, 502, 503 and 504, with backoff, jitter and
    Retry-After. No retry ever makes a second job, since every submit carries an Idempotency-Key.
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
        """`api_key` is the service's; `modal_key` and `modal_secret` pass Modal's proxy auth where that is on.

        `transport` is httpx's way out; `clock` and `pause` count and spend seconds.
        """
        wire = SyncTransport(transport, pause)
        connection = Connection(base_url, headers(api_key, modal_key, modal_secret), wire, tries=tries)
        super().__init__(AsyncClient.over(connection, clock))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """A client by TRELLIS2_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET.

        What the environment does not say is looked for in `~/.trellis2_modal_secrets.json`. `options` are those of the
        class and win where they are not None.
        """
        return cls(**options_of(environment, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def webhooks(self) -> Webhooks:
        """Your webhook endpoints, and what was sent to them."""
        return Webhooks(self._twin.webhooks)

    close = blocking(AsyncClient.close)
    submit = blocking_as(JobHandle, AsyncClient.submit)
    get = blocking_as(JobHandle, AsyncClient.get)
    list = iterating_as(JobHandle, AsyncClient.list)
    wait = blocking(AsyncClient.wait)
    stream = iterating(AsyncClient.stream)
    export = blocking_as(JobHandle, AsyncClient.export)
    submit_batch = blocking_as(BatchHandle, AsyncClient.submit_batch)
    batch = blocking_as(BatchHandle, AsyncClient.batch)
    get_batch = blocking_as(BatchHandle, AsyncClient.get_batch)
    list_batches = iterating_as(BatchHandle, AsyncClient.list_batches)
