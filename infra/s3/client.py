"""The S3 client library, set up so that nothing it does by default can harm us."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.handlers import add_expect_header

from infra.settings.s3 import S3Options
from shared.errors import StoreRefused

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def new_session(options: S3Options) -> boto3.Session:
    """Credentials and region."""
    core = botocore.session.Session()
    # botocore's own parser guesses at many forms, which is most of the cost of a list.
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)
    return boto3.Session(
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        region_name=options.region or core.get_config_variable("region") or "us-east-1",
        botocore_session=core,
    )


def new_client(session: boto3.Session, options: S3Options, signing: Config) -> "S3Client":
    """A client that tries once, keeps to its timeouts, and signs as `signing` says."""
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
    """The credentials of this moment. Raises StoreRefused."""
    found = session.get_credentials()
    if found is None:
        raise StoreRefused("there are no S3 credentials")
    return found.get_frozen_credentials()


def timestamp(text: str) -> datetime:
    """A time in either of the forms that S3 writes: ISO 8601 in bodies, RFC 9110 in headers."""
    return datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
