"""Every error this service raises on purpose, in one tree.

    ServiceError
    ├── InputRejected           the caller must change something: the job fails, never retried
    │   ├── ParameterInvalid        parameter_invalid
    │   ├── ImageRejected           not_an_image, format_unsupported, image_too_large, ... (see its codes)
    │   ├── UrlUnreachable          url_unreachable
    │   ├── UploadNotFound          upload_not_found
    │   ├── IdempotencyMismatch     idempotency_mismatch
    │   ├── NoObjectFound           no_object_found
    │   ├── AssetTooLarge           asset_too_large
    │   ├── FormatUnavailable       format_unavailable
    │   └── StateMissing            state_missing
    ├── RequestRefused          the gateway does not take the request: nothing of it was stored
    │   ├── Unauthenticated         unauthenticated
    │   ├── ScopeMissing            scope_missing
    │   ├── SignatureInvalid        signature_invalid
    │   ├── BodyMalformed           body_malformed
    │   ├── BodyTooLarge            body_too_large
    │   ├── BodyTooSlow             body_too_slow
    │   ├── MediaTypeUnsupported    media_type_unsupported
    │   ├── ArtifactNotFound        artifact_not_found
    │   ├── EndpointNotFound        endpoint_not_found
    │   ├── DeliveryNotFound        delivery_not_found
    │   ├── BatchNotFound           batch_not_found
    │   ├── TooManyEndpoints        too_many_endpoints
    │   └── LimitReached            the caller must wait: not at fault otherwise
    │       ├── TooManyRequests         too_many_requests
    │       ├── TooManyJobs             too_many_jobs
    │       └── BudgetSpent             budget_spent
    ├── EngineFailed            the attempt failed: the job is tried again
    │   ├── EmptySurface            empty_surface
    │   ├── OutputInvalid           output_invalid
    │   ├── GpuOutOfMemory          gpu_out_of_memory (not tried again)
    │   └── DeadlineExceeded        deadline_exceeded (not tried again)
    ├── WorkerUnfit             the worker releases the job and ends its process
    ├── JobStopped              the running job is no longer ours, or was canceled: drop it
    ├── StoreError
    │   ├── ObjectNotFound          the key does not exist
    │   ├── PreconditionFailed      the write was refused: the key exists, or its ETag is another
    │   ├── StoreUnavailable        no answer, or a 5xx: the write may or may not have happened
    │   └── StoreRefused            credentials, permission, bucket or space: a person must act
    ├── QueueUnavailable        the queue did not take the ids; the reconciler enqueues again
    └── JobStateError
        ├── JobNotFound             no such job, or not this caller's: the two look alike
        ├── TransitionRefused       the job's status does not allow the change
        └── LeaseLost               another attempt holds the job

`code` is stable: clients match on it. `retryable` says whether the same request may succeed later.
Foreign errors are translated once, in the adapter, with `from exc`.
"""

from collections.abc import Sequence
from typing import ClassVar


class ServiceError(Exception):
    """Base of the tree. `str(error)` is a sentence for the person who must act.

    A subclass names its `code` in its class statement, and `retryable` where it differs from its base's.
    """

    code: str = "service_error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str | None = None, retryable: bool | None = None) -> None:
        cls.code = cls.code if code is None else code
        cls.retryable = cls.retryable if retryable is None else retryable


class InputRejected(ServiceError, code="input_rejected"):
    """The input cannot become an asset; `pointer` is the JSON pointer of the field at fault, if there is one."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class ParameterInvalid(InputRejected, code="parameter_invalid"):
    """Parameters are unknown, of the wrong type, or out of range; `fields` holds (pointer, detail) of each."""

    def __init__(self, detail: str, *, pointer: str = "", fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail, pointer=pointer)
        self.fields = tuple(fields) or ((pointer, detail),)


class ImageRejected(InputRejected):
    """The image breaks a limit of the contract.

    `code` is one of `not_an_image`, `format_unsupported`, `image_too_large` (bytes, pixels or a side),
    `animation_unsupported`, `image_truncated`, `image_broken`.
    """

    def __init__(self, code: str, detail: str, *, pointer: str = "/image") -> None:
        super().__init__(detail, pointer=pointer)
        self.code = code


class UrlUnreachable(InputRejected, code="url_unreachable"):
    """The URL is not allowed, or nothing answered there; the two are deliberately one answer."""


class UploadNotFound(InputRejected, code="upload_not_found"):
    """Nothing was uploaded under this id by this caller, or it is gone."""


class IdempotencyMismatch(InputRejected, code="idempotency_mismatch"):
    """The Idempotency-Key was used before, for another payload."""


class NoObjectFound(InputRejected, code="no_object_found"):
    """The image shows no object that differs from its background."""


class AssetTooLarge(InputRejected, code="asset_too_large"):
    """The asset cannot be made small enough for max_bytes."""


class FormatUnavailable(InputRejected, code="format_unavailable"):
    """This service does not make one of the formats that were asked for."""


class StateMissing(InputRejected, code="state_missing"):
    """The state to extract again is gone, or was made by an engine that this service does not have."""


class RequestRefused(ServiceError, code="request_refused"):
    """The request is refused before its content is considered."""


class Unauthenticated(RequestRefused, code="unauthenticated"):
    """No API key, or none that is valid."""


class ScopeMissing(RequestRefused, code="scope_missing"):
    """The API key does not allow this."""


class SignatureInvalid(RequestRefused, code="signature_invalid"):
    """A signed URL or form that we did not sign, or that has expired."""


class BodyMalformed(RequestRefused, code="body_malformed"):
    """The body is not what its Content-Type says."""


class BodyTooLarge(RequestRefused, code="body_too_large"):
    """The body is larger than any valid one."""


class BodyTooSlow(RequestRefused, code="body_too_slow", retryable=True):
    """The body did not arrive in time."""


class MediaTypeUnsupported(RequestRefused, code="media_type_unsupported"):
    """The body is of a type that this route does not read."""


class ArtifactNotFound(RequestRefused, code="artifact_not_found"):
    """The job has no such artifact, or not yet."""


class EndpointNotFound(RequestRefused, code="endpoint_not_found"):
    """There is no such webhook endpoint, or it is another caller's."""


class DeliveryNotFound(RequestRefused, code="delivery_not_found"):
    """There is no such webhook delivery, or it is another caller's, or too old."""


class BatchNotFound(RequestRefused, code="batch_not_found"):
    """There is no such batch, or it is another caller's."""


class TooManyEndpoints(RequestRefused, code="too_many_endpoints"):
    """The caller has as many webhook endpoints as a caller may have."""


class LimitReached(RequestRefused, code="limit_reached", retryable=True):
    """A limit of the caller's; `retry_after_s` is when it is worth asking again."""

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyRequests(LimitReached, code="too_many_requests"):
    """The caller asks faster than it may."""


class TooManyJobs(LimitReached, code="too_many_jobs"):
    """The caller has as many unfinished jobs as it may have."""


class BudgetSpent(LimitReached, code="budget_spent"):
    """The caller has used what it may use in a day (UTC)."""


class EngineFailed(ServiceError, code="engine_failed", retryable=True):
    """The engine or the extraction failed; another attempt may succeed."""


class EmptySurface(EngineFailed, code="empty_surface"):
    """Sampling ended without a surface."""


class OutputInvalid(EngineFailed, code="output_invalid"):
    """The asset did not pass the checks that every asset must pass before it is stored."""


class GpuOutOfMemory(EngineFailed, code="gpu_out_of_memory"):
    """The job needs more memory than the GPU has."""


class DeadlineExceeded(EngineFailed, code="deadline_exceeded"):
    """The attempt took longer than an attempt may."""


class WorkerUnfit(ServiceError, code="worker_unfit", retryable=True):
    """This process can no longer be trusted with a job."""


class JobStopped(ServiceError, code="job_stopped"):
    """The running job was canceled, deleted or taken over: stop and drop its results."""


class StoreError(ServiceError, code="store_error", retryable=True):
    """Something between us and the object store."""


class ObjectNotFound(StoreError, code="object_not_found", retryable=False):
    """The key does not exist."""


class PreconditionFailed(StoreError, code="precondition_failed"):
    """The conditional write was refused."""


class StoreUnavailable(StoreError, code="store_unavailable"):
    """No usable answer. A write may have happened: read again before trying again."""


class StoreRefused(StoreError, code="store_refused", retryable=False):
    """The store refuses us for good: credentials, permission, missing bucket, no space, no conditional writes."""


class QueueUnavailable(ServiceError, code="queue_unavailable", retryable=True):
    """The ids did not reach the queue. Harmless: the reconciler enqueues them again."""


class JobStateError(ServiceError, code="job_state_error"):
    """A change that the job repository refuses."""


class JobNotFound(JobStateError, code="job_not_found"):
    """No such job for this caller."""


class TransitionRefused(JobStateError, code="transition_refused"):
    """The job's status does not allow this change."""


class LeaseLost(JobStateError, code="lease_lost"):
    """The attempt that asks is no longer the one that holds the job."""
