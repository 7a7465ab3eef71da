"""What `trellis2 doctor` checks: Modal's account, the bucket, the licences of the models, the weights, the GPU.

A check passes or raises; its failure is printed with the command, or the page, that fixes it.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx

from infra.modal_app.weights import HUB, SOURCES, Source, check_access
from infra.s3.store import S3Store
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings
from shared.errors import ObjectNotFound, ServiceError
from shared.storage.ports import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from huggingface_hub import HfApi

PACKAGES = ("modal", "huggingface_hub")
ANSWER_S = 20.0
GPU_WAIT_S = 300.0
FORM_BYTES = 64
ANY_ORIGIN = "https://example.com"
VARIABLES = "TRELLIS2_BUCKET=... TRELLIS2_S3_ENDPOINT=... TRELLIS2_S3_ACCESS_KEY=... TRELLIS2_S3_SECRET_KEY=..."
HUB_VARIABLE = "HF_TOKEN=hf_..."
FOLDER = "uploads/doctor/"  # objects that a crash leaves here are deleted like any abandoned upload


class CheckFailed(ServiceError, code="check_failed"):
    """A check did not pass; the message is what it met instead."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a deployment. run: raises where it does not hold. fix: the command, or the page, to mend it."""

    name: str
    run: Callable[[], object]
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, as plain text, so that a container can return it. problem: empty where it passed."""

    name: str
    problem: str = ""
    fix: str = ""


def run_checks(groups: Iterable[Sequence[Check]]) -> Iterator[Finding]:
    """Run all groups in order. The first failure of a group ends that group: its later checks depend on it."""
    for group in groups:
        for check in group:
            try:
                check.run()
            except (ServiceError, httpx.HTTPError, OSError) as error:
                yield Finding(check.name, str(error) or type(error).__name__, check.fix)
                break
            yield Finding(check.name)


def print_findings(findings: Iterable[Finding], write: Callable[[str], object]) -> bool:
    """Write a line for each finding as it comes; return whether all checks passed."""
    all_passed = True
    for finding in findings:
        if finding.problem:
            write(f"failed  {finding.name}: {finding.problem}\n        {finding.fix}")
            all_passed = False
        else:
            write(f"ok      {finding.name}")
    return all_passed


# --- Modal


def modal_checks(layout: ModalSettings) -> list[Check]:
    """Check the packages of the extra `modal`, the account, and the secrets that a deployment needs in it."""

    def require_packages() -> None:
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise CheckFailed(f"{', '.join(missing)} not installed")

    async def greet() -> None:
        import modal

        client = await modal.Client.from_env.aio()
        await client.hello.aio()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    bucket, hub = layout.bucket_secret, layout.huggingface_secret
    checks = [
        Check("packages for Modal", require_packages, "pip install -e '.[modal]'"),
        Check("Modal token", _call(greet), "modal token new"),
        Check(f"Modal secret {bucket}", _secret(bucket, "TRELLIS2_BUCKET"), secret_command(bucket, VARIABLES)),
    ]
    if layout.gpu:
        checks.append(Check(f"Modal secret {hub}", _secret(hub, "HF_TOKEN"), secret_command(hub, HUB_VARIABLE)))
    return checks


def secret_command(name: str, variables: str, *, replace: bool = False) -> str:
    """Return the command that creates or replaces a Modal secret."""
    return f"modal secret create {'--force ' if replace else ''}{name} {variables}"


def volume_checks(layout: ModalSettings) -> list[Check]:
    """Check that the volume holds weights of every source."""

    async def require_sources() -> None:
        import modal

        names = {entry.path for entry in await modal.Volume.from_name(layout.weights_volume).listdir.aio("/")}
        if missing := [source.repo for source in SOURCES if source.repo.split("/")[0] not in names]:
            raise CheckFailed(", ".join(missing))

    fill = "modal run -m infra.app::fetch_weights"
    return [Check(f"weights in volume {layout.weights_volume}", _call(require_sources), fill)]


def gpu_checks(layout: ModalSettings, spawn: Callable[[], Any]) -> list[Check]:
    """Check that a GPU starts, by starting one: no call of Modal's returns a quota. `spawn` returns the call."""

    def start() -> None:
        try:
            spawn().get(timeout=GPU_WAIT_S)
        except TimeoutError as error:
            raise CheckFailed(f"none started within {GPU_WAIT_S:g} s") from error

    plan = f"ask Modal for {' or '.join(layout.gpu)}, or export TRELLIS2_GPU= to a kind that your plan has"
    return [Check(f"GPU {' or '.join(layout.gpu)} starts", start, plan)]


def _call(call: "Callable[[], Coroutine[Any, Any, object]]") -> Callable[[], object]:
    def run() -> object:
        from infra.modal_app.invocations import ModalCalls

        calls = ModalCalls(bound_s=ANSWER_S)
        return calls.run(call, calls.deadline())

    return run


def _secret(name: str, key: str) -> Callable[[], object]:
    async def hydrate() -> None:
        import modal

        await modal.Secret.from_name(name, required_keys=[key]).hydrate.aio()

    return _call(hydrate)


# --- the Hub


def licence_checks(hub: "HfApi", renew: str, sources: Sequence[Source] = SOURCES) -> list[list[Check]]:
    """Check each model in a group of its own; `renew` is the command that puts another token in place."""

    def fix(source: Source) -> str:
        return f"accept its licence at {HUB}/{source.repo}, or {renew}" if source.is_gated else renew

    return [[Check(f"model {source.repo}", partial(check_access, hub, source), fix(source))] for source in sources]


# --- the bucket


def bucket_checks(settings: Settings, fix: str) -> list[Check]:
    """Check the bucket, each check depending on those before it; `fix` is the command that names another bucket."""
    http = httpx.Client(timeout=ANSWER_S, verify=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else True)

    @cache
    def store() -> S3Store:
        try:
            return S3Store(settings.s3_options())
        except ValueError as error:  # how the client library refuses an address
            raise CheckFailed(str(error)) from error

    replace = f"take a store that honours If-None-Match and If-Match (docs/deploy.md names some), then {fix}"
    cors, page = cors_command(settings), settings.public_url
    checks = [
        Check(f"bucket {describe_bucket(settings)} is reachable", lambda: check_access_rights(store()), fix),
        Check("bucket keeps conditional writes", lambda: store().probe(), replace),
    ]
    if settings.s3_signs_forms:
        checks.append(Check("bucket keeps the limits of signed forms", lambda: check_form(store(), http), replace))
    checks.append(Check("bucket lets browsers read (CORS)", lambda: check_reading(store(), http, page), cors))
    if settings.s3_signs_forms:
        checks.append(Check("bucket lets browsers upload (CORS)", lambda: check_uploading(store(), http, page), cors))
    return checks


def describe_bucket(settings: Settings) -> str:
    """Describe the bucket and its address, without keys."""
    return f"{settings.bucket} at {settings.s3_endpoint or 'AWS'}"


def cors_command(settings: Settings) -> str:
    """Return the command that lets browsers read from the bucket and upload to it."""
    endpoint = f" --endpoint-url {settings.s3_endpoint}" if settings.s3_endpoint else ""
    return f"aws s3api put-bucket-cors{endpoint} --bucket {settings.bucket} --cors-configuration file://docs/cors.json"


def check_access_rights(store: ObjectStore) -> None:
    """List, write, read and delete. Raises StoreError where the key may not."""
    key = f"{FOLDER}{secrets.token_hex(8)}"
    any(True for _ in store.list(FOLDER))
    try:
        store.put(key, b"doctor")
        store.get(key)
    finally:
        store.delete(key)


def check_form(store: ObjectStore, http: httpx.Client) -> None:
    """Upload by a signed form a body of the largest size, then one byte more.

    Raises:
        CheckFailed: the store refuses the first or accepts the second.
    """
    key = f"{FOLDER}{secrets.token_hex(8)}"
    form = store.sign_post(key, max_bytes=FORM_BYTES, expires_s=60)
    try:
        for size_bytes, fits in ((FORM_BYTES, True), (FORM_BYTES + 1, False)):
            files = {"file": ("f", b"x" * size_bytes)}
            response = http.post(form.url, data=dict(form.fields), files=files)
            if (response.status_code < 300) is not fits:
                raise CheckFailed(f"{size_bytes} bytes against a limit of {FORM_BYTES} gave {response.status_code}")
        if store.get(key).size_bytes != FORM_BYTES:
            raise CheckFailed("the stored object is not the uploaded one")
    except ObjectNotFound as error:
        raise CheckFailed("the uploaded object is missing") from error
    finally:
        store.delete(key)


def check_reading(store: ObjectStore, http: httpx.Client, origin: str | None) -> None:
    """Read as a page on `origin` would. Raises CheckFailed where the bucket's CORS rules forbid it."""
    key, origin = f"{FOLDER}{secrets.token_hex(8)}", origin or ANY_ORIGIN
    store.put(key, b"doctor")
    try:
        response = http.get(store.sign_get(key, expires_s=60), headers={"Origin": origin})
    finally:
        store.delete(key)
    _require_cors(response, origin, "read from")


def check_uploading(store: ObjectStore, http: httpx.Client, origin: str | None) -> None:
    """Send the preflight of an upload from a page on `origin`. Raises CheckFailed where the CORS rules forbid it."""
    form, origin = store.sign_post(f"{FOLDER}preflight", max_bytes=FORM_BYTES, expires_s=60), origin or ANY_ORIGIN
    response = http.options(form.url, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    _require_cors(response, origin, "upload to")


def _require_cors(response: httpx.Response, origin: str, action: str) -> None:
    if response.headers.get("access-control-allow-origin") not in ("*", origin):
        raise CheckFailed(f"a page on {origin} may not {action} it ({response.status_code})")
