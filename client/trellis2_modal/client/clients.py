"""The two clients: on asyncio, and blocking with the same methods, run without an event loop."""

import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Self
from urllib.parse import quote

import httpx

from trellis2_modal._http import PAGE_LIMIT, TRIES, Connection, Request
from trellis2_modal._submission import ImageSource, PathLike, batch_request, job_request
from trellis2_modal._sync import SyncFacade, sync_iterator, sync_iterator_as, sync_method, sync_method_as
from trellis2_modal._transport import AsyncTransport, SyncTransport
from trellis2_modal.client.credentials import credentials, headers
from trellis2_modal.resources.batches import AsyncBatchHandle, BatchHandle
from trellis2_modal.resources.events import JobEvent
from trellis2_modal.resources.jobs import AsyncJobHandle, JobHandle, Parameter
from trellis2_modal.resources.webhooks import AsyncWebhooks, Webhooks
from trellis2_modal.types.batch import Batch
from trellis2_modal.types.job import Job

LOCAL_URL = "http://127.0.0.1:8080"


class FromEnvironment:
    """Base of both clients, which makes them from the environment."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """Make a client from TRELLIS2_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET.

        A variable that is not set is read from `~/.trellis2_modal_secrets.json`. `options` are the parameters of the
        class; those that are not None take precedence.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**{**credentials(environment), **given})


class AsyncClient(FromEnvironment):
    """A client of one service, on asyncio. Close it, or use it in an `async with`.

        async with AsyncClient("https://3d.example.com", api_key="t2_...") as client:
            job = await client.submit("mug.png", preset="web")
            await job.wait()
            await job.download("model", "mug.glb")

    Its arguments and retries are those of `Client`.
    """

    def __init__(
        self,
        base_url: str = LOCAL_URL,
        api_key: str | None = None,
        *,
        modal_key: str | None = None,
        modal_secret: str | None = None,
        tries: int = TRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        auth = headers(api_key, modal_key, modal_secret)
        self._connection = Connection(base_url, auth, AsyncTransport(transport, pause), tries=tries)
        self._clock = clock

    @classmethod
    def from_connection(cls, connection: Connection, clock: Callable[[], float]) -> Self:
        """Make a client over an existing connection."""
        client = cls.__new__(cls)
        client._connection, client._clock = connection, clock
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def webhooks(self) -> AsyncWebhooks:
        """Your webhook endpoints, and the deliveries to them."""
        return AsyncWebhooks(self._connection)

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.transport.close()

    async def submit(
        self,
        /,
        image: ImageSource,
        *,
        preset: str | None = None,
        engine: str | None = None,
        lane: str | None = None,
        custom_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Parameter,
    ) -> AsyncJobHandle:
        """Submit an image: a path, the bytes of a file, or an https URL that the service fetches.

        `parameters` are TRELLIS.2's own (`seed`, `pipeline_type`, `ss_sampling_steps`, ...); they override the preset.
        With the same `idempotency_key` a repeated call returns the same job, also from another process; without a key
        each call creates a job. `webhook` receives the job's terminal event: a URL, or a mapping with `url` and
        `events`; the receiver checks it with `trellis2_modal.webhooks.verify`.

        Raises:
            InputRejected: the service rejects the image or a parameter; `errors` names it.
            NotAllowed, RateLimited, ServiceFailed, NotReachable: see the error tree.
            OSError: the file cannot be read.
        """
        labels = {"preset": preset, "engine": engine, "lane": lane, "custom_id": custom_id, "metadata": metadata}
        labels["webhook"] = {"url": webhook} if isinstance(webhook, str) else webhook
        fields = {name: value for name, value in labels.items() if value is not None} | parameters
        request = await job_request(
            self._connection,
            image,
            fields,
            key=idempotency_key or secrets.token_hex(16),
            may_upload=idempotency_key is None,
        )
        return await self._connection.fetch(request, self._job_handle)

    async def get(self, job_id: str) -> AsyncJobHandle:
        """Fetch a job by its id.

        Raises:
            NotFound: there is no such job, or it is another caller's.
        """
        request = Request("GET", f"v1/jobs/{quote(job_id, safe='')}")
        return await self._connection.fetch(request, self._job_handle)

    def list(
        self, *, status: str | None = None, batch: str | None = None, page_limit: int = PAGE_LIMIT
    ) -> AsyncGenerator[AsyncJobHandle, None]:
        """Iterate over your jobs, newest first, in pages of `page_limit` (1-100)."""
        query = {"limit": str(page_limit), "status": status, "batch": batch}
        return self._connection.fetch_pages("v1/jobs", query, self._job_handle)

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait for a job by its id, as the handle's `wait` does."""
        return await (await self.get(job_id)).wait(timeout_s)

    async def stream(self, job_id: str, last_event_id: str = "") -> AsyncGenerator[JobEvent, None]:
        """Iterate over the events of a job by its id, as the handle's `stream` does."""
        handle = await self.get(job_id)
        async with aclosing(handle.stream(last_event_id)) as events:
            async for event in events:
                yield event

    async def export(
        self, /, job_id: str, *, preset: str | None = None, idempotency_key: str | None = None, **parameters: Parameter
    ) -> AsyncJobHandle:
        """Export a job by its id, as the handle's `export` does."""
        handle = await self.get(job_id)
        return await handle.export(preset=preset, idempotency_key=idempotency_key, **parameters)

    async def submit_batch(
        self,
        /,
        manifest: PathLike | None = None,
        *,
        images: PathLike | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> AsyncBatchHandle:
        """Submit a catalog: an unchanged Shopify export, a Google Merchant feed, any CSV, or JSON lines.

        `images` is a folder or a zip of images, named by the ids of their rows; without a manifest each image is a row.
        `fields` are those of POST /v1/batches: `preset`, `max_cost_usd`, `max_failures`, `confirm`, `rerun`,
        `deliver_to`, `webhook`, `metadata`, `engine`, and TRELLIS.2's parameters, which a row can override.

        Raises:
            InputRejected: the service rejects a file or a field.
            NotAllowed, RateLimited, ServiceFailed, NotReachable: see the error tree.
            OSError: a file cannot be read.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        key = idempotency_key or secrets.token_hex(16)
        async with batch_request(self._connection, manifest, images, given, key=key) as request:
            return await self._connection.fetch(request, self._batch_handle)

    async def batch(
        self,
        /,
        manifest: PathLike | None = None,
        *,
        images: PathLike | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> AsyncBatchHandle:
        """Run a whole catalog: `submit_batch` without confirmation, then wait for its end, at most `timeout_s`.

        `max_cost_usd` and `max_failures` limit what it may cost.

        Raises:
            WaitTimedOut: the batch has not ended. Also the errors of `submit_batch`.
        """
        options = {"confirm": False, **fields}
        handle = await self.submit_batch(manifest, images=images, idempotency_key=idempotency_key, **options)
        await handle.wait(timeout_s)
        return handle

    async def get_batch(self, batch_id: str) -> AsyncBatchHandle:
        """Fetch a batch by its id.

        Raises:
            NotFound: there is no such batch, or it is another caller's.
        """
        request = Request("GET", f"v1/batches/{quote(batch_id, safe='')}")
        return await self._connection.fetch(request, self._batch_handle)

    def list_batches(self) -> AsyncGenerator[AsyncBatchHandle, None]:
        """Iterate over your batches, newest first."""
        return self._connection.fetch_pages("v1/batches", {}, self._batch_handle)

    def _batch_handle(self, body: Mapping[str, Any]) -> AsyncBatchHandle:
        return AsyncBatchHandle(self._connection, Batch.from_json(body), clock=self._clock)

    def _job_handle(self, body: Mapping[str, Any]) -> AsyncJobHandle:
        return AsyncJobHandle(self._connection, Job.from_json(body), clock=self._clock)


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
