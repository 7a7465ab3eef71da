"""`trellis2 doctor`: what a deployment still lacks, in order, each with the command that mends it."""

import argparse
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from infra.modal_calls import ModalCalls
from infra.modal_settings import ModalSettings
from infra.parts import open_store
from infra.settings import Settings
from infra.weights import SOURCES, Hub, Source, WeightsUnavailable
from shared.errors import ObjectNotFound, ServiceError
from shared.ports import ObjectStore

ANSWER_S = 20.0
FORM_BYTES = 64


class Lacking(ServiceError):
    """A check that did not pass; the sentence says what was found instead."""

    code = "lacking"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so. look: raises where it is not. mend: the command, or the page, that makes it so."""

    name: str
    look: Callable[[], object]
    mend: str


def examine(groups: Sequence[Sequence[Check]], say: Callable[[str], None]) -> bool:
    """Look at everything, and say it; whether all is well. In each group the first gap hides what rests on it."""
    is_well = True
    for group in groups:
        for check in group:
            try:
                check.look()
            except (ServiceError, httpx.HTTPError, OSError) as gap:
                say(f"lacks  {check.name}: {gap}\n       {check.mend}")
                is_well = False
                break
            say(f"ok     {check.name}")
    return is_well


def modal_checks(layout: ModalSettings) -> list[Check]:
    """The account, and what must lie in it before a deployment."""
    import modal

    calls = ModalCalls(bound_s=ANSWER_S)

    def ask(call: Callable[[], Any]) -> Callable[[], object]:
        return lambda: calls.run(call, calls.deadline())

    async def greet() -> None:
        client = await modal.Client.from_env.aio()
        await client.hello.aio()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped

    def secret(name: str, key: str) -> Callable[[], object]:
        return ask(modal.Secret.from_name(name, required_keys=[key]).hydrate.aio)

    bucket, hub = layout.bucket_secret, layout.huggingface_secret
    return [
        Check("Modal token", ask(greet), "modal token new"),
        Check(
            f"Modal secret {bucket}",
            secret(bucket, "TRELLIS2_BUCKET"),
            f"modal secret create {bucket} TRELLIS2_BUCKET=... TRELLIS2_S3_ENDPOINT=... TRELLIS2_S3_ACCESS_KEY=... "
            "TRELLIS2_S3_SECRET_KEY=...",
        ),
        Check(f"Modal secret {hub}", secret(hub, "HF_TOKEN"), f"modal secret create {hub} HF_TOKEN=hf_..."),
    ]


def bucket_checks(settings: Settings) -> list[Check]:
    """The bucket, as this machine reaches it with the same TRELLIS2_BUCKET and TRELLIS2_S3_* as the secret."""
    opened: list[ObjectStore] = []
    http = httpx.Client(timeout=ANSWER_S, verify=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else True)

    def probe() -> None:
        opened.append(open_store(settings))

    checks = [
        Check(
            "bucket is reachable and keeps its conditions",
            probe,
            "export TRELLIS2_BUCKET=... TRELLIS2_S3_ENDPOINT=..., or take a store that honours "
            "If-None-Match and If-Match (docs/deploy.md names them)",
        )
    ]
    if settings.s3_signs_forms:
        cors = f"aws s3api put-bucket-cors --bucket {settings.bucket} --cors-configuration file://docs/cors.json"
        checks += [
            Check("bucket keeps the limits of signed forms", lambda: check_form(opened[0], http), "take another store"),
            Check("bucket answers browsers (CORS)", lambda: check_cors(opened[0], http, settings.public_url), cors),
        ]
    return checks


def check_form(store: ObjectStore, http: httpx.Client) -> None:
    """Upload by a signed form what fits, then what does not. Raises Lacking where the limit is not kept."""
    key = f"uploads/doctor/{secrets.token_hex(8)}"
    form = store.sign_post(key, max_bytes=FORM_BYTES, expires_s=60)
    try:
        for size_bytes, fits in ((FORM_BYTES, True), (FORM_BYTES + 1, False)):
            files = {"file": ("f", b"x" * size_bytes)}
            answer = http.post(form.url, data=dict(form.fields), files=files)
            if (answer.status_code < 300) is not fits:
                raise Lacking(f"{size_bytes} bytes against a limit of {FORM_BYTES} gave {answer.status_code}")
        if store.get(key).size_bytes != FORM_BYTES:
            raise Lacking("what was uploaded is not what was stored")
    except ObjectNotFound as error:
        raise Lacking("what was uploaded is not there") from error
    finally:
        store.delete(key)


def check_cors(store: ObjectStore, http: httpx.Client, origin: str | None) -> None:
    """Ask as a browser would before it uploads. Raises Lacking where the bucket does not let it."""
    form = store.sign_post("uploads/doctor/preflight", max_bytes=FORM_BYTES, expires_s=60)
    asked = {"Origin": origin or "https://example.com", "Access-Control-Request-Method": "POST"}
    answer = http.options(form.url, headers=asked)
    if answer.headers.get("access-control-allow-origin") not in ("*", asked["Origin"]):
        raise Lacking(f"a page on {asked['Origin']} may not upload to it ({answer.status_code})")


def licence_checks(hub: Hub, sources: Sequence[Source] = SOURCES) -> list[list[Check]]:
    """The models, as this machine's HF_TOKEN sees them; each on its own."""

    def look(source: Source) -> Callable[[], None]:
        def allowed() -> None:
            if not hub.is_allowed(source):
                raise WeightsUnavailable("not open to HF_TOKEN")

        return allowed

    return [
        [
            Check(
                f"model {source.repo}",
                look(source),
                f"export HF_TOKEN=hf_..., accept the licence at https://huggingface.co/{source.repo}",
            )
        ]
        for source in sources
    ]


def volume_checks(layout: ModalSettings) -> list[Check]:
    """The weights in their volume."""
    import modal

    calls = ModalCalls(bound_s=ANSWER_S)
    volume = modal.Volume.from_name(layout.weights_volume)

    def present() -> None:
        names = {entry.path for entry in calls.run(lambda: volume.listdir.aio("/"), calls.deadline())}
        if lacking := [source.repo for source in SOURCES if source.repo.split("/")[0] not in names]:
            raise Lacking(", ".join(lacking))

    return [Check(f"weights in volume {layout.weights_volume}", present, "modal run -m infra.app::fetch_weights")]


def gpu_checks(layout: ModalSettings) -> list[Check]:
    """A GPU, by starting one; costs a few cents."""

    def start() -> None:
        from infra.app import app, check_gpu

        with app.run():
            check_gpu.remote()

    plan = f"ask Modal for {' or '.join(layout.gpu)}, or set TRELLIS2_GPU to a kind that your plan has"
    return [Check("GPU", start, plan)]


def run_doctor(arguments: argparse.Namespace) -> int:
    """Examine everything; 1 if something is missing."""
    layout, settings = ModalSettings(), Settings(store="s3")
    has_modal = examine([modal_checks(layout)], print)
    groups = [bucket_checks(settings)]
    if layout.gpu:
        groups += licence_checks(Hub(os.environ.get("HF_TOKEN")))
    if layout.gpu and has_modal:
        groups.append(volume_checks(layout))
    if arguments.gpu and has_modal:
        groups.append(gpu_checks(layout))
    if not examine(groups, print) or not has_modal:
        return 1
    print("Nothing is missing: modal deploy -m infra.app")
    return 0
