"""The client: submit pictures and catalogs, find jobs and batches again."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from trellis2_modal.batch import Batch
from trellis2_modal.batch_handle import BatchHandle
from trellis2_modal.catalog import PathLike, batch_call
from trellis2_modal.connection import TRIES, Call, Connection
from trellis2_modal.handle import JobHandle, Parameter
from trellis2_modal.job import Job
from trellis2_modal.picture import PictureSource
from trellis2_modal.submission import submission

LOCAL_URL = "http://127.0.0.1:8080"
PAGE_LIMIT = 100


class Client:
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
        headers = _credentials(api_key, modal_key, modal_secret)
        self._connection = Connection(base_url, headers, transport=transport, pause=pause, tries=tries)
        self._clock = clock
        self._pause = pause

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **options: Any) -> "Client":
        """A client by TRELLIS2_URL, TRELLIS2_API_KEY, TRELLIS2_MODAL_KEY and TRELLIS2_MODAL_SECRET.

        `options` are those of the class and win over the environment where they are not None.
        """
        found = {
            "base_url": environment.get("TRELLIS2_URL"),
            "api_key": environment.get("TRELLIS2_API_KEY"),
            "modal_key": environment.get("TRELLIS2_MODAL_KEY"),
            "modal_secret": environment.get("TRELLIS2_MODAL_SECRET"),
        }
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**{name: value for name, value in found.items() if value} | given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()

    def submit(
        self,
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
    ) -> JobHandle:
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
        call = submission(
            self._connection,
            picture,
            fields,
            key=idempotency_key or secrets.token_hex(16),
            may_upload=idempotency_key is None,
        )
        return self._handle(self._connection.ask(call, Job.from_wire))

    def get(self, job_id: str) -> JobHandle:
        """A job by its id.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        call = Call("GET", f"v1/jobs/{quote(job_id, safe='')}")
        return self._handle(self._connection.ask(call, Job.from_wire))

    def list(self, *, status: str | None = None, batch: str | None = None) -> Iterator[JobHandle]:
        """Your jobs, newest first; pages are fetched as the iterator comes to them."""
        query = {"limit": str(PAGE_LIMIT)}
        query |= {name: value for name, value in {"status": status, "batch": batch}.items() if value}
        while True:
            jobs, cursor = self._connection.ask(Call("GET", "v1/jobs", query=query), _page)
            yield from map(self._handle, jobs)
            if not cursor:
                return
            query = {**query, "after": cursor}

    def submit_batch(
        self,
        manifest: PathLike | None = None,
        *,
        pictures: PathLike | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> BatchHandle:
        """Submit a catalog: a Shopify export, a Google Merchant feed, any CSV, or JSON lines; as it is.

        `pictures` is a folder or a zip of them, named by the ids of their rows; without a manifest each is a row.
        `fields` are those of POST /v1/batches: `preset`, `max_cost_usd`, `max_failures`, `confirm`, `rerun`,
        `deliver_to`, `webhook`, `metadata`, `engine`, and TRELLIS.2's parameters for all rows that say nothing else.

        Raises:
            InputRejected: the service refuses a file or a field.
            NotAllowed, RateLimited, ServiceFailed, NotReachable: see the error tree.
            OSError: a file cannot be read.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        key = idempotency_key or secrets.token_hex(16)
        with batch_call(self._connection, manifest, pictures, given, key=key) as call:
            return self._batch(self._connection.ask(call, Batch.from_wire))

    def get_batch(self, batch_id: str) -> BatchHandle:
        """A batch by its id.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        call = Call("GET", f"v1/batches/{quote(batch_id, safe='')}")
        return self._batch(self._connection.ask(call, Batch.from_wire))

    def list_batches(self) -> Iterator[BatchHandle]:
        """Your batches, newest first; pages are fetched as the iterator comes to them."""
        query = {"limit": str(PAGE_LIMIT)}
        while True:
            batches, cursor = self._connection.ask(Call("GET", "v1/batches", query=query), _batch_page)
            yield from map(self._batch, batches)
            if not cursor:
                return
            query = {**query, "after": cursor}

    def _batch(self, batch: Batch) -> BatchHandle:
        return BatchHandle(self._connection, batch, clock=self._clock, pause=self._pause)

    def _handle(self, job: Job) -> JobHandle:
        return JobHandle(self._connection, job, clock=self._clock, pause=self._pause)


def _page(body: Any) -> tuple[list[Job], str | None]:
    return [Job.from_wire(job) for job in body["data"]], body.get("next_cursor")


def _batch_page(body: Any) -> tuple[list[Batch], str | None]:
    return [Batch.from_wire(batch) for batch in body["data"]], body.get("next_cursor")


def _credentials(api_key: str | None, modal_key: str | None, modal_secret: str | None) -> dict[str, str]:
    """Modal's proxy auth takes the Authorization header for itself, so behind it the API key has another."""
    if modal_key and modal_secret:
        proxy = {"Modal-Key": modal_key, "Modal-Secret": modal_secret}
        return proxy | ({"X-API-Key": api_key} if api_key else {})
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
