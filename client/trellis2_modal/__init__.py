"""Client of the TRELLIS.2 image-to-3D service."""

from trellis2_modal.batch import Batch, BatchStatus, Counts, Plan, Row
from trellis2_modal.batch_handle import AsyncBatchHandle, BatchHandle
from trellis2_modal.client import AsyncClient, Client
from trellis2_modal.endpoints import AsyncWebhooks, Attempt, Delivery, Endpoint, Webhooks
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
from trellis2_modal.events import JobEvent
from trellis2_modal.handle import AsyncJobHandle, JobHandle
from trellis2_modal.job import Artifact, Check, Job, JobError, Lowered, Sampled, Status

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
    "Lowered",
    "NoStream",
    "NotAllowed",
    "NotFound",
    "NotReachable",
    "Plan",
    "RateLimited",
    "Row",
    "Sampled",
    "ServiceFailed",
    "Status",
    "TrellisError",
    "UrlInvalid",
    "WaitTimedOut",
    "Webhooks",
]
