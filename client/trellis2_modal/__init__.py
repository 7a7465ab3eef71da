"""Client of the TRELLIS.2 image-to-3D service.

Names are loaded on first use: importing httpx takes most of the time of a short command.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trellis2_modal.client import AsyncClient, Client
    from trellis2_modal.errors import (
        ApiError,
        Conflict,
        FieldError,
        InputRejected,
        IntegrityError,
        JobCanceled,
        JobExpired,
        JobFailed,
        JobUnsuccessful,
        KeyUnusable,
        NoStream,
        NotAllowed,
        NotFound,
        NotReachable,
        RateLimited,
        ServiceFailed,
        TrellisError,
        UrlInvalid,
        WaitTimedOut,
    )
    from trellis2_modal.resources.batches import AsyncBatchHandle, BatchHandle
    from trellis2_modal.resources.events import JobEvent
    from trellis2_modal.resources.jobs import AsyncJobHandle, JobHandle
    from trellis2_modal.resources.webhooks import AsyncWebhooks, Attempt, Delivery, Endpoint, Webhooks
    from trellis2_modal.types.batch import Batch, BatchStatus, Counts, Plan, Row
    from trellis2_modal.types.job import Artifact, Check, Degradation, Job, JobError, SamplingResult, Status
else:
    _MODULES = (
        "errors",
        "types.job",
        "types.batch",
        "resources.events",
        "resources.jobs",
        "resources.batches",
        "resources.webhooks",
        "client",
    )

    def __getattr__(name: str) -> object:
        """Load a name of `__all__`, or a module that defines some of them."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        for module_name in _MODULES if name in __all__ else ():
            module = import_module(f"{__name__}.{module_name}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ApiError",
    "Artifact",
    "AsyncBatchHandle",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncWebhooks",
    "Attempt",
    "Batch",
    "BatchHandle",
    "BatchStatus",
    "Check",
    "Client",
    "Conflict",
    "Counts",
    "Degradation",
    "Delivery",
    "Endpoint",
    "FieldError",
    "InputRejected",
    "IntegrityError",
    "Job",
    "JobCanceled",
    "JobError",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobUnsuccessful",
    "KeyUnusable",
    "NoStream",
    "NotAllowed",
    "NotFound",
    "NotReachable",
    "Plan",
    "RateLimited",
    "Row",
    "SamplingResult",
    "ServiceFailed",
    "Status",
    "TrellisError",
    "UrlInvalid",
    "WaitTimedOut",
    "Webhooks",
]
