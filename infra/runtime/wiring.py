"""What every composition root is built from: the store, the work, the gateway."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from shutil import which

from fastapi import FastAPI

from api.submission.group_commit import GroupCommitLimits
from infra.observability.metered_store import MeteredStore
from infra.observability.metrics import METRICS, watch
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

POLL_S = 1.0  # how often the outbox of a bucket is looked at: every look is a request that is paid for
FILES_POLL_S = 0.25  # and that of a folder

# Submits over a folder: a few threads, of which one works while the others wait for the disk.
DISK_TURNS = GroupCommitLimits(max_groups=4, group_size=16)


def open_store(settings: Settings, *, probe_valid_s: float = 0.0) -> MeteredStore:
    """The store that the settings name, checked and metered; `probe_valid_s`: see `S3Store.probe`.

    Raises:
        StoreRefused: it does not let us in, or does not keep the promises that the ledger needs.
    """
    if settings.store == "files":
        from infra.filestore.store import FileStore

        files = FileStore(settings.data_dir / "store", secret=settings.signing_secret())
        return MeteredStore(files, METRICS.store_request)
    from infra.s3.store import (
        S3Store,  # boto3 takes half a second to import, and the embedded service has no use for it
    )

    store = S3Store(settings.s3_options())
    store.probe(valid_s=probe_valid_s)
    return MeteredStore(store, METRICS.store_request)


def crash_point(crash_at: str | None) -> Callable[[str], None]:
    """A hook that kills this process, as a power cut would, at the one point that `crash_at` names."""

    def at(point: str) -> None:
        if point == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def build_job_function(settings: Settings, store: ObjectStore, engines: Mapping[str, Engine]) -> JobFunction:
    """The real work, with its kernels compiled, so that no job waits for that."""
    from worker.extraction.warmup import warm_up
    from worker.runner.pipeline import JobPipeline

    warm_up(settings.data_dir / "kernels")
    return JobPipeline(store, Egress(), engines, at=crash_point(settings.crash_at)).run


def open_receivers(settings: Settings) -> Egress:
    """The way to webhook receivers: public ones, and those that the settings name."""
    return Egress(private_origins=settings.webhook_private_origins)


def build_outbox_relay(settings: Settings, jobs: JobRepository) -> OutboxRelay:
    """What delivers webhooks; see there for a process that lasts and for one that comes and goes."""
    base_url = (settings.public_url or "").rstrip("/")
    postman = WebhookSender(jobs, open_receivers(settings), base_url=base_url)
    return OutboxRelay(postman, poll_s=FILES_POLL_S if settings.store == "files" else POLL_S)


def formats_made() -> tuple[Format, ...]:
    """What workers that are installed like this process can make; asked without importing any of it."""
    made = {"glb": True, "usdz": find_spec("pxr") is not None, "meshopt": which("gltfpack") is not None}
    return tuple(name for name in FORMATS if made[name])


def build_batch_scheduler(
    settings: Settings, jobs: JobRepository, queue: JobQueue, engines: Sequence[str], prices: Prices
) -> BatchScheduler:
    """What plans and feeds batches; `prices` is what estimates go by while nothing is measured."""
    batches = BatchRepository(jobs.store)
    at = crash_point(settings.crash_at)
    planner = Planner(batches, jobs, Egress(), tuple(engines), prices, at=at)
    return BatchScheduler(planner, BatchDispatcher(batches, jobs, queue, at=at), window=settings.batch_window)


def build_progress_notifier(settings: Settings, store: ObjectStore) -> ProgressNotifier:
    """What tells receivers of progress."""
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
    """The gateway, with the file store's signed URLs where that is the store."""
    from api.app import create_app
    from api.context.deps import Dependencies
    from infra.observability.metrics_route import metrics_router

    watch()
    checkpoint = crash_point(settings.crash_at)
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
            group_commit=DISK_TURNS if settings.store == "files" else GroupCommitLimits(),
            checkpoint=checkpoint,
            batches_changed=batches_changed,
        )
    )
    app.include_router(metrics_router(app.state.services))
    files = store.inner if isinstance(store, MeteredStore) else store
    if settings.store == "files":
        from infra.filestore.http import files_router
        from infra.filestore.store import FileStore

        assert isinstance(files, FileStore)  # noqa: S101 - what `open_store` gives for this setting
        app.include_router(files_router(files))
    return app
