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
    """Base of the tree. `str(error)` is a sentence for the person who must act."""

    code: str = "service_error"
    retryable: ClassVar[bool] = False


class InputRejected(ServiceError):
    """The input cannot become an asset; `pointer` is the JSON pointer of the field at fault, if there is one."""

    code = "input_rejected"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class ParameterInvalid(InputRejected):
    """Parameters are unknown, of the wrong type, or out of range; `fields` holds (pointer, detail) of each."""

    code = "parameter_invalid"

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


class UrlUnreachable(InputRejected):
    """The URL is not allowed, or nothing answered there; the two are deliberately one answer."""

    code = "url_unreachable"


class UploadNotFound(InputRejected):
    """Nothing was uploaded under this id by this caller, or it is gone."""

    code = "upload_not_found"


class IdempotencyMismatch(InputRejected):
    """The Idempotency-Key was used before, for another payload."""

    code = "idempotency_mismatch"


class NoObjectFound(InputRejected):
    """The image shows no object that differs from its background."""

    code = "no_object_found"


class AssetTooLarge(InputRejected):
    """The asset cannot be made small enough for max_bytes."""

    code = "asset_too_large"


class FormatUnavailable(InputRejected):
    """This service does not make one of the formats that were asked for."""

    code = "format_unavailable"


class StateMissing(InputRejected):
    """The state to extract again is gone, or was made by an engine that this service does not have."""

    code = "state_missing"


class RequestRefused(ServiceError):
    """The request itself, whatever it asks for, is not taken."""

    code = "request_refused"


class Unauthenticated(RequestRefused):
    """No API key, or none that is valid."""

    code = "unauthenticated"


class ScopeMissing(RequestRefused):
    """The API key does not allow this."""

    code = "scope_missing"


class SignatureInvalid(RequestRefused):
    """A signed URL or form that we did not sign, or that has expired."""

    code = "signature_invalid"


class BodyMalformed(RequestRefused):
    """The body is not what its Content-Type says."""

    code = "body_malformed"


class BodyTooLarge(RequestRefused):
    """The body is larger than any valid one."""

    code = "body_too_large"


class BodyTooSlow(RequestRefused):
    """The body did not arrive in time."""

    code = "body_too_slow"
    retryable = True


class MediaTypeUnsupported(RequestRefused):
    """The body is of a type that this route does not read."""

    code = "media_type_unsupported"


class ArtifactNotFound(RequestRefused):
    """The job has no such artifact, or not yet."""

    code = "artifact_not_found"


class EndpointNotFound(RequestRefused):
    """There is no such webhook endpoint, or it is another caller's."""

    code = "endpoint_not_found"


class DeliveryNotFound(RequestRefused):
    """There is no such webhook delivery, or it is another caller's, or too old."""

    code = "delivery_not_found"


class BatchNotFound(RequestRefused):
    """There is no such batch, or it is another caller's."""

    code = "batch_not_found"


class TooManyEndpoints(RequestRefused):
    """The caller has as many webhook endpoints as a caller may have."""

    code = "too_many_endpoints"


class LimitReached(RequestRefused):
    """A limit of the caller's; `retry_after_s` is when it is worth asking again."""

    code = "limit_reached"
    retryable = True

    def __init__(self, detail: str, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyRequests(LimitReached):
    """The caller asks faster than it may."""

    code = "too_many_requests"


class TooManyJobs(LimitReached):
    """The caller has as many unfinished jobs as it may have."""

    code = "too_many_jobs"


class BudgetSpent(LimitReached):
    """The caller has used what it may use in a day (UTC)."""

    code = "budget_spent"


class EngineFailed(ServiceError):
    """The engine or the extraction failed; another attempt may succeed."""

    code = "engine_failed"
    retryable = True


class EmptySurface(EngineFailed):
    """Sampling ended without a surface."""

    code = "empty_surface"


class OutputInvalid(EngineFailed):
    """The asset did not pass the checks that every asset must pass before it is stored."""

    code = "output_invalid"


class GpuOutOfMemory(EngineFailed):
    """The job needs more memory than the GPU has."""

    code = "gpu_out_of_memory"


class DeadlineExceeded(EngineFailed):
    """The attempt took longer than an attempt may."""

    code = "deadline_exceeded"


class WorkerUnfit(ServiceError):
    """This process can no longer be trusted with a job."""

    code = "worker_unfit"
    retryable = True


class JobStopped(ServiceError):
    """The running job was canceled, deleted or taken over: stop and drop its results."""

    code = "job_stopped"


class StoreError(ServiceError):
    """Something between us and the object store."""

    code = "store_error"
    retryable = True


class ObjectNotFound(StoreError):
    """The key does not exist."""

    code = "object_not_found"
    retryable = False


class PreconditionFailed(StoreError):
    """The conditional write was refused."""

    code = "precondition_failed"


class StoreUnavailable(StoreError):
    """No usable answer. A write may have happened: read again before trying again."""

    code = "store_unavailable"


class StoreRefused(StoreError):
    """The store refuses us for good: credentials, permission, missing bucket, no space, no conditional writes."""

    code = "store_refused"
    retryable = False


class QueueUnavailable(ServiceError):
    """The ids did not reach the queue. Harmless: the reconciler enqueues them again."""

    code = "queue_unavailable"
    retryable = True


class JobStateError(ServiceError):
    """A change that the job repository refuses."""

    code = "job_state_error"


class JobNotFound(JobStateError):
    """No such job for this caller."""

    code = "job_not_found"


class TransitionRefused(JobStateError):
    """The job's status does not allow this change."""

    code = "transition_refused"


class LeaseLost(JobStateError):
    """The attempt that asks is no longer the one that holds the job."""

    code = "lease_lost"
