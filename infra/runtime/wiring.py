"""Builders that both composition roots share: the store, the job function, the gateway."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from shutil import which

from fastapi import FastAPI

from api.submission.group_commit import GroupCommitLimits
from infra.observability.metrics import METRICS, MeteredStore, watch
from infra.settings.service import Settings
from shared.domain.parameters import FORMATS, Format
from shared.net.egress import Egress
from shared.repositories.batch_estimates import Prices
from shared.repositories.batches import BatchRepository
from shared.repositories.jobs import JobRepository
from shared.storage.ports import JobQueue, ObjectStore
from worker.batches.dispatcher import BatchDispatcher
from worker.batches.planner import Planner
from worker.batches.scheduler import BatchScheduler
from worker.engine import Engine
from worker.runner.job_function import JobFunction
from worker.webhooks.progress_notifier import ProgressNotifier
from worker.webhooks.relay import OutboxRelay
from worker.webhooks.sender import WebhookSender

POLL_S = 1.0  # between two listings of the outbox in a bucket: each is a request that costs
EMBEDDED_POLL_S = 0.25  # of the outbox in the embedded store

# Submits to the embedded store: one group runs while the other waits for the disk.
EMBEDDED_GROUPS = GroupCommitLimits(max_groups=2, group_size=32)


def open_store(settings: Settings, *, probe_valid_s: float = 0.0) -> MeteredStore:
    """Open the store that the settings name, probed and metered; `probe_valid_s`: see `S3Store.probe`.

    Raises:
        StoreRefused: it refuses access, or does not keep the conditions that job records need.
    """
    if settings.store == "embedded":
        from infra.embedded_store.store import SqliteStore

        embedded = SqliteStore(settings.data_dir / "store", secret=settings.signing_secret())
        return MeteredStore(embedded, METRICS.store_request)
    from infra.s3.store import (
        S3Store,  # boto3 takes half a second to import, and the embedded service has no use for it
    )

    store = S3Store(settings.s3_options())
    store.probe(valid_s=probe_valid_s)
    return MeteredStore(store, METRICS.store_request)


def crash_point(crash_at: str | None) -> Callable[[str], None]:
    """Return a hook that kills this process, as a power cut would, at the point that `crash_at` names."""

    def at(point: str) -> None:
        if point == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def build_job_function(settings: Settings, store: ObjectStore, engines: Mapping[str, Engine]) -> JobFunction:
    """Build the job function, with its kernels compiled, so that no job waits for that."""
    from worker.extraction.export_asset import warm_up
    from worker.runner.pipeline import JobPipeline

    warm_up(settings.data_dir / "kernels")
    return JobPipeline(store, Egress(), engines, at=crash_point(settings.crash_at)).run


def open_receivers(settings: Settings) -> Egress:
    """Open the way to webhook receivers: public ones, and those that the settings name."""
    return Egress(private_origins=settings.webhook_private_origins)


def build_outbox_relay(settings: Settings, jobs: JobRepository) -> OutboxRelay:
    """Build what delivers webhooks, for a long-lived process and for one that runs each minute."""
    base_url = (settings.public_url or "").rstrip("/")
    sender = WebhookSender(jobs, open_receivers(settings), base_url=base_url)
    return OutboxRelay(sender, poll_s=EMBEDDED_POLL_S if settings.store == "embedded" else POLL_S)


def formats_made() -> tuple[Format, ...]:
    """List the formats that workers with this process's packages can write, without importing these."""
    available = {"glb": True, "usdz": find_spec("pxr") is not None, "meshopt": which("gltfpack") is not None}
    return tuple(name for name in FORMATS if available[name])


def build_batch_scheduler(
    settings: Settings, jobs: JobRepository, queue: JobQueue, engines: Sequence[str], prices: Prices
) -> BatchScheduler:
    """Build what plans and dispatches batches; `prices` serves estimates while nothing is measured."""
    batches = BatchRepository(jobs.store)
    at = crash_point(settings.crash_at)
    planner = Planner(batches, jobs, Egress(), tuple(engines), prices, at=at)
    return BatchScheduler(planner, BatchDispatcher(batches, jobs, queue, at=at), window=settings.batch_window)


def build_progress_notifier(settings: Settings, store: ObjectStore) -> ProgressNotifier:
    return ProgressNotifier(store, open_receivers(settings), (settings.public_url or "").rstrip("/"))


def build_gateway_app(
    settings: Settings,
    store: ObjectStore,
    jobs: JobRepository,
    queue: JobQueue,
    *,
    engines: Sequence[str],
    parallel_jobs: int = 1,
    batches_changed: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Build the gateway, with the signed URLs of the embedded store where that is in use."""
    from api.app import create_app
    from api.context.services import Dependencies
    from infra.observability.metrics import metrics_router

    watch()
    app = create_app(
        Dependencies(
            store=store,
            jobs=jobs,
            queue=queue,
            egress=Egress(),
            receivers=open_receivers(settings),
            engines=tuple(engines),
            formats=formats_made(),
            public_url=settings.public_url,
            parallel_jobs=parallel_jobs,
            group_commit=EMBEDDED_GROUPS if settings.store == "embedded" else GroupCommitLimits(),
            checkpoint=crash_point(settings.crash_at),
            batches_changed=batches_changed,
        )
    )
    app.include_router(metrics_router(app.state.services))
    if settings.store == "embedded":
        from infra.embedded_store.http import files_router
        from infra.embedded_store.store import SqliteStore

        embedded = store.inner if isinstance(store, MeteredStore) else store
        assert isinstance(embedded, SqliteStore)  # noqa: S101 - what `open_store` gives for this setting
        app.include_router(files_router(embedded))
    return app
