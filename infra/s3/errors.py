"""What an S3 store and its client library raise, in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from shared.errors import ObjectNotFound, PreconditionFailed, StoreError, StoreRefused, StoreUnavailable

# 412: the condition does not hold. 409: another write was under way, and this one did not happen.
_LOST_STATUSES = {409, 412}
# Refusals by status 400 that another try may not meet: the body broke on its way, or came too slowly.
_BROKEN_ON_THE_WAY = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout"}
_MISCONFIGURED = (NoCredentialsError, PartialCredentialsError, ParamValidationError)


@contextmanager
def translated(key: str) -> Iterator[None]:
    """The one place where S3's errors become ours."""
    try:
        yield
    except ClientError as error:
        raise _translation(error, key) from error
    except _MISCONFIGURED as error:
        raise StoreRefused(f"{key}: {error}") from error
    except (BotoCoreError, ResponseParserError, OSError) as error:
        raise StoreUnavailable(f"{key}: {error}") from error


def _translation(error: ClientError, key: str) -> StoreError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    told = f"{key}: {status} {code}"
    if status == 404 and code != "NoSuchBucket":
        return ObjectNotFound(told)
    if status in _LOST_STATUSES:
        return PreconditionFailed(told)
    # 501: the store does not do this. 507: it is full.
    if status in {501, 507} or (300 <= status < 500 and status not in {408, 429} and code not in _BROKEN_ON_THE_WAY):
        return StoreRefused(told)
    return StoreUnavailable(told)
