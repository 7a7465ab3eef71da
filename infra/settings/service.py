"""All configuration, read once from the environment; every name begins with TRELLIS2_."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def half_the_cores() -> int:
    """Half of the cores that this process may use, between 1 and 4: the others serve requests."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, max(1, cores // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How to reach a bucket, and the switches in which S3-compatible stores differ.

    | provider             | endpoint_url                               | region  | addressing | besides              |
    |----------------------|--------------------------------------------|---------|------------|----------------------|
    | AWS                  | None                                       | its own | virtual    |                      |
    | Cloudflare R2        | https://<account>.r2.cloudflarestorage.com | auto    | path       | signs_forms=False,   |
    |                      |                                            |         |            | key_interval_s=1     |
    | Tigris               | https://t3.storage.dev                     | auto    | virtual    |                      |
    | Scaleway             | https://s3.<region>.scw.cloud              | its own | virtual    |                      |
    | MinIO                | its own                                    | any     | path       |                      |
    | Ceph RGW             | its own                                    | any     | path       | before 20.2 unquoted |
    | DigitalOcean Spaces  | https://<region>.digitaloceanspaces.com    | its own | virtual    | unquoted             |
    | Hetzner              | https://<region>.your-objectstorage.com    | its own | virtual    | unquoted             |
    | Google Cloud Storage | refused: reads neither condition, and takes no `x-goog-` header with `x-amz-` ones        |
    | Backblaze B2         | refused: answers 501 to conditions                                                        |

    "Unquoted" is no switch: `S3Store.probe` measures in which form a store takes ETags, and refuses one that takes
    neither or ignores conditions. What one store needs and harms none of the others is no switch either:
    checksums only where an operation requires them (Ceph refuses or stores the aws-chunked framing), Signature V4
    always, no `Expect` header, bodies in one request, never a conditional delete.
    """

    bucket: str
    endpoint_url: str | None = None
    # None: AWS_DEFAULT_REGION or the profile's.
    region: str | None = None
    # None: boto3's own chain (environment, profile, instance role).
    access_key: str | None = None
    secret_key: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    # Whether the store takes browser forms; without them an image is sent with its job.
    signs_forms: bool = True
    # Seconds that the store wants between two writes of one key.
    key_interval_s: float = 0.0
    # Certificates that vouch for the endpoint, if the system's do not.
    ca_bundle: Path | None = None

    # Threads that may call at once, a gateway's 40 and its repositories' 8: one connection each.
    # More calls than that open a connection each. Above 16 at once a store gains latency, not rate.
    threads: int = 48
    connect_timeout_s: float = 5.0
    # Silence that ends a call.
    read_timeout_s: float = 10.0
    # A call that may be retried is not begun again after this long. A body may take as long, and longer by its size.
    deadline_s: float = 20.0
    slowest_bytes_per_s: float = 1_000_000.0
    tries: int = 4


class Settings(BaseSettings):
    """The service's settings, with the embedded service's defaults."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS2_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs an API key.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(None, description="Where callers reach the service, if not where it listens.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    store: Literal["embedded", "s3"] = Field("embedded", description="Where records and artifacts are kept.")
    data_dir: Path = Field(Path("var"), description="Folder of the embedded store, the signing secret and the caches.")
    bucket: str = Field("trellis2", description="S3 bucket.")
    s3_endpoint: str | None = Field(None, description="S3 endpoint URL; AWS's if absent.")
    s3_region: str | None = Field(None, description="S3 region; AWS_DEFAULT_REGION if absent.")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key id; boto3's own chain if absent.")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret access key.")
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    s3_signs_forms: bool = Field(True, description="Whether the store takes browser forms (R2 does not).")
    s3_key_interval_s: float = Field(0.0, ge=0, description="Seconds the store wants between writes of one key.")
    s3_ca_bundle: Path | None = Field(None, description="CA certificates for the endpoint, if not the system's.")

    reconcile_interval_s: float = Field(5.0, gt=0, description="Seconds between runs of the embedded reconciler.")
    requeue_after_s: float = Field(60.0, ge=0, description="Seconds a job waits before it is enqueued again.")
    batch_window: int = Field(512, ge=1, description="Unfinished jobs of all batches together.")
    queue_ttl_s: float = Field(86_400.0, gt=0, description="Seconds a job may wait before it expires.")
    deadline_s: float = Field(900.0, gt=0, description="Seconds that one attempt may take.")
    parallel_jobs: int = Field(
        default_factory=half_the_cores,
        ge=1,
        description="Jobs that a worker process of the embedded service runs at once, at 0.6 GB each.",
    )
    usd_per_s: float = Field(0.0, ge=0, description="What a second of a worker costs, US dollars.")
    webhook_private_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+$")], ...] = Field(
        (), description='For development: where webhooks may go although it is not public, `["http://127.0.0.1:9000"]`.'
    )
    otlp_endpoint: str | None = Field(None, description="Where OpenTelemetry traces go (OTLP over HTTP), if anywhere.")
    crash_at: str | None = Field(
        None, description="For fault tests: the process kills itself at `<step>:before` or `<step>:after`."
    )

    def s3_options(self) -> S3Options:
        """Return the options to reach the bucket; `S3Options` says what each provider needs."""
        return S3Options(
            bucket=self.bucket,
            endpoint_url=self.s3_endpoint or None,  # left empty where it is AWS's
            region=self.s3_region or None,
            access_key=self.s3_access_key.get_secret_value() if self.s3_access_key else None,
            secret_key=self.s3_secret_key.get_secret_value() if self.s3_secret_key else None,
            addressing=self.s3_addressing,
            signs_forms=self.s3_signs_forms,
            key_interval_s=self.s3_key_interval_s,
            ca_bundle=self.s3_ca_bundle,
        )

    def signing_secret(self) -> bytes:
        """Return the secret that signs the embedded store's URLs, created on first use and shared by all processes."""
        path = self.data_dir / "signing-secret"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"signing-secret.{secrets.token_hex(8)}")
        if not path.exists():
            fresh.touch(mode=0o600)
            fresh.write_bytes(secrets.token_bytes(32))
            try:
                path.hardlink_to(fresh)  # fails where another process was first: then its secret counts
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_bytes()
