"""`trellis2 doctor`: what a deployment still lacks, in order, each with the command that mends it."""

import argparse
import os
from collections.abc import Iterator

from pydantic import ValidationError

from infra.doctor.bucket import VARIABLES, bucket_checks, place_of
from infra.doctor.check import Finding, find, tell
from infra.doctor.modal import gpu_checks, modal_checks, volume_checks
from infra.doctor.models import licence_checks
from infra.modal_app.weights import Hub
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings


def run_doctor(arguments: argparse.Namespace) -> int:
    """Examine everything; 1 if something is missing."""
    try:
        layout, here = ModalSettings(), Settings(store="s3")
    except ValidationError as error:
        print(f"lacks  settings that can be read: {error}")
        return 1
    has_modal = tell(find([modal_checks(layout)]), print)
    if has_modal:
        print("...    what follows runs on Modal, with its own secrets; the first time it builds an image")
        seen = seen_on_modal(layout, here, wants_gpu=arguments.gpu)
    else:
        print("...    Modal cannot be asked yet: what follows is seen from this machine, by its own variables")
        seen = seen_from_here(layout, here)
    if not tell(seen, print) or not has_modal:
        return 1
    if layout.gpu and not arguments.gpu:
        print(f"...    not tried, as it costs a few cents: {' or '.join(layout.gpu)}; trellis2 doctor --gpu does")
    print("Nothing is missing: modal deploy -m infra.app")
    return 0


def seen_on_modal(layout: ModalSettings, here: Settings, *, wants_gpu: bool) -> Iterator[Finding]:
    """What the service will see: an app with its secrets, its image and its kind of GPU looks, and goes."""
    from infra.doctor import modal_app

    try:
        with modal_app.app.run():
            place, findings = modal_app.look_at_bucket.remote()
            yield from findings
            yield same_bucket(place, here)
            if layout.gpu:
                yield from modal_app.look_at_models.remote()
                yield from find([volume_checks(layout)])
            if layout.gpu and wants_gpu:
                yield from find([gpu_checks(layout, modal_app.name_gpu.spawn)])
    except Exception as error:  # noqa: BLE001 - whatever Modal, the image or a container meets is a gap to be told
        yield Finding("a look from Modal", f"{type(error).__name__}: {error}", "modal app list, modal app logs")


def seen_from_here(layout: ModalSettings, here: Settings) -> Iterator[Finding]:
    """What this machine sees with its own variables; the service will go by Modal's secrets instead."""
    export = f"export {VARIABLES}"
    if "TRELLIS2_BUCKET" in os.environ:
        yield from find([bucket_checks(here, export)])
    else:
        yield Finding("bucket", "TRELLIS2_BUCKET is not set", export)
    if layout.gpu:
        yield from find(licence_checks(Hub(os.environ.get("HF_TOKEN")), "export HF_TOKEN=hf_..."))


def same_bucket(place: str, here: Settings) -> Finding:
    """`trellis2 keys` writes to the bucket from here: this machine must mean the same one."""
    name = "this machine means the same bucket, for `trellis2 keys`"
    if place == place_of(here):
        return Finding(name)
    return Finding(name, f"the secret's is {place}, this machine's {place_of(here)}", f"export {VARIABLES}")
