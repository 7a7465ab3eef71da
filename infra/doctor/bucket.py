"""What the doctor tries with a bucket: that it is there, and holds to what the service stands on."""

import secrets
from functools import cache

import httpx

from infra.doctor.check import Check, CheckFailed
from infra.s3.store import S3Store
from infra.settings.service import Settings
from shared.errors import ObjectNotFound
from shared.storage.ports import ObjectStore

ANSWER_S = 20.0
FORM_BYTES = 64
ANY_ORIGIN = "https://example.com"
VARIABLES = "TRELLIS2_BUCKET=... TRELLIS2_S3_ENDPOINT=... TRELLIS2_S3_ACCESS_KEY=... TRELLIS2_S3_SECRET_KEY=..."
FOLDER = "uploads/doctor/"  # what is left there is swept like any upload


def bucket_checks(settings: Settings, mend: str) -> list[Check]:
    """In order, each resting on those before it; `mend` is the command that names another bucket, or another key."""
    http = httpx.Client(timeout=ANSWER_S, verify=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else True)

    @cache
    def store() -> S3Store:
        try:
            return S3Store(settings.s3_options())
        except ValueError as error:  # the client library's word for an address that is none
            raise CheckFailed(str(error)) from error

    honest = f"take a store that honours If-None-Match and If-Match (docs/deploy.md names some), then {mend}"
    cors, page = cors_command(settings), settings.public_url
    checks = [
        Check(f"bucket {place_of(settings)} is reachable", lambda: check_access(store()), mend),
        Check("bucket keeps conditional writes", lambda: store().probe(), honest),
    ]
    if settings.s3_signs_forms:
        checks.append(Check("bucket keeps the limits of signed forms", lambda: check_form(store(), http), honest))
    checks.append(Check("bucket lets browsers read (CORS)", lambda: check_reading(store(), http, page), cors))
    if settings.s3_signs_forms:
        checks.append(Check("bucket lets browsers upload (CORS)", lambda: check_uploading(store(), http, page), cors))
    return checks


def place_of(settings: Settings) -> str:
    """Which bucket it is, without its keys."""
    return f"{settings.bucket} at {settings.s3_endpoint or 'AWS'}"


def cors_command(settings: Settings) -> str:
    """What lets browsers upload to the bucket."""
    endpoint = f" --endpoint-url {settings.s3_endpoint}" if settings.s3_endpoint else ""
    return f"aws s3api put-bucket-cors{endpoint} --bucket {settings.bucket} --cors-configuration file://docs/cors.json"


def check_access(store: ObjectStore) -> None:
    """List, write, read and delete. Raises StoreError where the key may not."""
    key = f"{FOLDER}{secrets.token_hex(8)}"
    any(True for _ in store.list(FOLDER))
    try:
        store.put(key, b"doctor")
        store.get(key)
    finally:
        store.delete(key)


def check_form(store: ObjectStore, http: httpx.Client) -> None:
    """Upload by a signed form what fits, then what does not. Raises Lacking where the limit is not kept."""
    key = f"{FOLDER}{secrets.token_hex(8)}"
    form = store.sign_post(key, max_bytes=FORM_BYTES, expires_s=60)
    try:
        for size_bytes, fits in ((FORM_BYTES, True), (FORM_BYTES + 1, False)):
            files = {"file": ("f", b"x" * size_bytes)}
            answer = http.post(form.url, data=dict(form.fields), files=files)
            if (answer.status_code < 300) is not fits:
                raise CheckFailed(f"{size_bytes} bytes against a limit of {FORM_BYTES} gave {answer.status_code}")
        if store.get(key).size_bytes != FORM_BYTES:
            raise CheckFailed("what was uploaded is not what was stored")
    except ObjectNotFound as error:
        raise CheckFailed("what was uploaded is not there") from error
    finally:
        store.delete(key)


def check_reading(store: ObjectStore, http: httpx.Client, origin: str | None) -> None:
    """Read as a page on `origin` would. Raises Lacking where the bucket does not let it see what it read."""
    key, origin = f"{FOLDER}{secrets.token_hex(8)}", origin or ANY_ORIGIN
    store.put(key, b"doctor")
    try:
        answer = http.get(store.sign_get(key, expires_s=60), headers={"Origin": origin})
    finally:
        store.delete(key)
    _require_open(answer, origin, "read from")


def check_uploading(store: ObjectStore, http: httpx.Client, origin: str | None) -> None:
    """Ask as a page on `origin` would before it uploads. Raises Lacking where the bucket does not let it."""
    form, origin = store.sign_post(f"{FOLDER}preflight", max_bytes=FORM_BYTES, expires_s=60), origin or ANY_ORIGIN
    answer = http.options(form.url, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    _require_open(answer, origin, "upload to")


def _require_open(answer: httpx.Response, origin: str, what: str) -> None:
    if answer.headers.get("access-control-allow-origin") not in ("*", origin):
        raise CheckFailed(f"a page on {origin} may not {what} it ({answer.status_code})")
