"""The S3 client library: its set-up, without harmful defaults, and its errors translated to ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError

from infra.settings.service import S3Options
from shared.errors import ObjectNotFound, PreconditionFailed, StoreError, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# 412: the condition does not hold. 409: another write was under way, and this one did not happen.
_LOST_STATUSES = {409, 412}
# Errors of status 400 that another try may not meet: the body was damaged in transit, or came too slowly.
_DAMAGED_IN_TRANSIT = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout"}
_MISCONFIGURED = (NoCredentialsError, PartialCredentialsError, ParamValidationError)


def new_session(options: S3Options) -> boto3.Session:
    """Create a session with the credentials and the region of the options."""
    core = botocore.session.Session()
    # botocore's own parser tries many formats, which is most of the cost of a list.
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)
    return boto3.Session(
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        region_name=options.region or core.get_config_variable("region") or "us-east-1",
        botocore_session=core,
    )


def new_client(session: boto3.Session, options: S3Options, signing: Config) -> "S3Client":
    """Create a client that tries once, keeps to its timeouts, and signs as `signing` says."""
    config = Config(
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.threads,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": options.addressing},
    )
    client = session.client(
        "s3",
        endpoint_url=options.endpoint_url,
        config=config.merge(signing),
        verify=str(options.ca_bundle) if options.ca_bundle else None,
    )
    # Waiting for "100 Continue" costs a round trip per write.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


def credentials_of(session: boto3.Session) -> ReadOnlyCredentials:
    """Read the present credentials. Raises StoreRefused."""
    credentials = session.get_credentials()
    if credentials is None:
        raise StoreRefused("there are no S3 credentials")
    return credentials.get_frozen_credentials()


def timestamp(text: str) -> datetime:
    """Parse a time in either format of S3: ISO 8601 in bodies, RFC 9110 in headers."""
    return datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)


@contextmanager
def translated(key: str) -> Iterator[None]:
    """Translate the errors of S3 and its client library."""
    try:
        yield
    except ClientError as error:
        raise _translate(error, key) from error
    except _MISCONFIGURED as error:
        raise StoreRefused(f"{key}: {error}") from error
    except (BotoCoreError, ResponseParserError, OSError) as error:
        raise StoreUnavailable(f"{key}: {error}") from error


def _translate(error: ClientError, key: str) -> StoreError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    message = f"{key}: {status} {code}"
    if status == 404 and code != "NoSuchBucket":
        return ObjectNotFound(message)
    if status in _LOST_STATUSES:
        return PreconditionFailed(message)
    # 501: the store does not do this. 507: it is full.
    if status in {501, 507} or (300 <= status < 500 and status not in {408, 429} and code not in _DAMAGED_IN_TRANSIT):
        return StoreRefused(message)
    return StoreUnavailable(message)
