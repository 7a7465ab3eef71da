"""How to reach an S3 bucket, and everything in which S3-alikes differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """The switches, and how they stand for each provider.

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
    | Google Cloud Storage | refused: reads neither condition, and takes no `x-goog-` header beside `x-amz-` ones      |
    | Backblaze B2         | refused: answers 501 to conditions                                                        |

    "Unquoted" is no switch: `S3Store.probe` finds out in which form a store takes ETags, and refuses one that takes
    neither or ignores conditions. Nor is what is done for one store and harms none of the others:
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
    # Whether the store takes browser forms; without them a picture comes with the job that it is for.
    signs_forms: bool = True
    # Seconds that the store wants between two writes of one key.
    key_interval_s: float = 0.0
    # Certificates that vouch for the endpoint, if the system's do not.
    ca_bundle: Path | None = None

    # Threads that may call at once, a gateway's 40 and its ledger's 8: the pool keeps a connection for each. More calls
    # than that still go out, each over a connection of its own. Above 16 at once a store gains latency, not rate.
    threads: int = 48
    connect_timeout_s: float = 5.0
    # Silence that ends a call.
    read_timeout_s: float = 10.0
    # A call that may be retried is not begun again after this long. A body may take as long, and longer by its size.
    deadline_s: float = 20.0
    slowest_bytes_per_s: float = 1_000_000.0
    tries: int = 4
