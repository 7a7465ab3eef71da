"""The client, awaited: submit pictures and catalogs, find jobs and batches again."""

import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from trellis2_modal._batch_request import PathLike, batch_call
from trellis2_modal._http import TRIES, Connection, Request
from trellis2_modal._image import PictureSource
from trellis2_modal._job_request import submission
from trellis2_modal._pagination import PAGE_LIMIT, pages
from trellis2_modal._transport import AsyncTransport
from trellis2_modal.client.credentials import credentials, headers
from trellis2_modal.resources.batches import AsyncBatchHandle
from trellis2_modal.resources.events import JobEvent
from trellis2_modal.resources.jobs import AsyncJobHandle, Parameter
from trellis2_modal.resources.webhooks import AsyncWebhooks
from trellis2_modal.types.batch import Batch
from trellis2_modal.types.job import Job

LOCAL_URL = "http://127.0.0.1:8080"


class AsyncClient:
    """Talks to one service, on asyncio. Close it, or use it in an `async with`.

        async with AsyncClient("https://3d.example.com", api_key="t2_...") as client:
            job = await client.submit("mug.png", preset="web")
            await job.wait()
            await job.download("model", "mug.glb")

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
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """`api_key` is the service's; `modal_key` and `modal_secret` pass Modal's proxy auth where that is on.

        `transport` is httpx's way out; `clock` and `pause` count and spend seconds.
        """
        wire = AsyncTransport(transport, pause)
        self._connection = Connection(base_url, headers(api_key, modal_key, modal_secret), wire, tries=tries)
        self._clock = clock

    @classmethod
    def over(cls, connection: Connection, clock: Callable[[], float]) -> Self:
        """A client of a connection that is there already."""
        client = cls.__new__(cls)
        client._connection, client._clock = connection, clock
        return client

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> Self:
        """A client by TRELLIS2_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET.

        What the environment does not say is looked for in `~/.trellis2_modal_secrets.json`. `options` are those of the
        class and win where they are not None.
        """
        return cls(**options_of(environment, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def webhooks(self) -> AsyncWebhooks:
        """Your webhook endpoints, and what was sent to them."""
        return AsyncWebhooks(self._connection)

    async def close(self) -> None:
        """Close every connection."""
        await self._connection.wire.close()

    async def submit(
        self,
        /,
        picture: PictureSource,
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
        """Submit a picture: a path, the bytes of a file, or an https URL that the service fetches.

        `parameters` are TRELLIS.2's own (`seed`, `pipeline_type`, `ss_sampling_steps`, ...); one given here wins over
        the preset's. `idempotency_key` makes a repeated call, by another process as well, give the same job; without
        one each call makes a job of its own. `webhook` is where the job's end is told: a URL, or a mapping with `url`
        and `events`; `trellis2_modal.webhooks.verify` verifies what comes there.

        Raises:
            InputRejected: the service refuses the picture or a parameter; `errors` says which.
            NotAllowed, RateLimited, ServiceFailed, NotReachable: see the error tree.
            OSError: the file cannot be read.
        """
        labels = {"preset": preset, "engine": engine, "lane": lane, "custom_id": custom_id, "metadata": metadata}
        labels["webhook"] = {"url": webhook} if isinstance(webhook, str) else webhook
        fields = {name: value for name, value in labels.items() if value is not None} | parameters
        call = await submission(
            self._connection,
            picture,
            fields,
            key=idempotency_key or secrets.token_hex(16),
            may_upload=idempotency_key is None,
        )
        return self._job(await self._connection.ask(call, Job.from_wire))

    async def get(self, job_id: str) -> AsyncJobHandle:
        """A job by its id.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        call = Request("GET", f"v1/jobs/{quote(job_id, safe='')}")
        return self._job(await self._connection.ask(call, Job.from_wire))

    async def list(
        self, *, status: str | None = None, batch: str | None = None, page_limit: int = PAGE_LIMIT
    ) -> AsyncGenerator[AsyncJobHandle, None]:
        """Your jobs, newest first; pages of `page_limit` (1-100) are fetched as the iterator comes to them."""
        query = {"limit": str(page_limit), "status": status, "batch": batch}
        async with aclosing(pages(self._connection, "v1/jobs", query, Job.from_wire)) as jobs:
            async for job in jobs:
                yield self._job(job)

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait for a job by its id, as its handle's `wait` does."""
        return await (await self.get(job_id)).wait(timeout_s)

    async def stream(self, job_id: str, last_event_id: str = "") -> AsyncGenerator[JobEvent, None]:
        """The events of a job by its id, as its handle's `stream` gives them."""
        handle = await self.get(job_id)
        async with aclosing(handle.stream(last_event_id)) as events:
            async for event in events:
                yield event

    async def export(
        self, /, job_id: str, *, preset: str | None = None, idempotency_key: str | None = None, **parameters: Parameter
    ) -> AsyncJobHandle:
        """Export a job by its id, as its handle's `export` does."""
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
        """Submit a catalog: a Shopify export, a Google Merchant feed, any CSV, or JSON lines; as it is.

        `images` is a folder or a zip of them, named by the ids of their rows; without a manifest each is a row.
        `fields` are those of POST /v1/batches: `preset`, `max_cost_usd`, `max_failures`, `confirm`, `rerun`,
        `deliver_to`, `webhook`, `metadata`, `engine`, and TRELLIS.2's parameters for all rows that say nothing else.

        Raises:
            InputRejected: the service refuses a file or a field.
            NotAllowed, RateLimited, ServiceFailed, NotReachable: see the error tree.
            OSError: a file cannot be read.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        key = idempotency_key or secrets.token_hex(16)
        async with batch_call(self._connection, manifest, images, given, key=key) as call:
            return self._batch(await self._connection.ask(call, Batch.from_wire))

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
        """Run a whole catalog: as `submit_batch` with the yes given beforehand, and waited for, `timeout_s` at most.

        Say by `max_cost_usd` and `max_failures` when it is to stop.

        Raises:
            WaitTimedOut: it goes on. What `submit_batch` raises.
        """
        given = {"confirm": False, **fields}
        handle = await self.submit_batch(manifest, images=images, idempotency_key=idempotency_key, **given)
        await handle.wait(timeout_s)
        return handle

    async def get_batch(self, batch_id: str) -> AsyncBatchHandle:
        """A batch by its id.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        call = Request("GET", f"v1/batches/{quote(batch_id, safe='')}")
        return self._batch(await self._connection.ask(call, Batch.from_wire))

    async def list_batches(self) -> AsyncGenerator[AsyncBatchHandle, None]:
        """Your batches, newest first; pages are fetched as the iterator comes to them."""
        async with aclosing(pages(self._connection, "v1/batches", {}, Batch.from_wire)) as batches:
            async for batch in batches:
                yield self._batch(batch)

    def _batch(self, batch: Batch) -> AsyncBatchHandle:
        return AsyncBatchHandle(self._connection, batch, clock=self._clock)

    def _job(self, job: Job) -> AsyncJobHandle:
        return AsyncJobHandle(self._connection, job, clock=self._clock)


def options_of(environment: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a client: those that were given, over what the environment has."""
    return {**credentials(environment), **{name: value for name, value in given.items() if value is not None}}
