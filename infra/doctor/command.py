"""`trellis2 doctor`: print what a deployment lacks, in order, each with the command that fixes it."""

import argparse
import os
from collections.abc import Iterator
from importlib.util import find_spec

from pydantic import ValidationError

from infra.doctor import checks
from infra.doctor.checks import HUB_VARIABLE, VARIABLES, Finding, print_findings, run_checks
from infra.modal_app.weights import open_hub
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings


def run_doctor(arguments: argparse.Namespace) -> int:
    """Run all checks; return 1 if one failed."""
    try:
        layout, local = ModalSettings(), Settings(store="s3")
    except ValidationError as error:
        print(f"failed  settings are readable: {error}")
        return 1
    has_modal = print_findings(run_checks([checks.modal_checks(layout)]), print)
    if has_modal:
        print("...     the next checks run on Modal, with its own secrets; the first time it builds an image")
        findings = check_on_modal(layout, local, starts_gpu=arguments.gpu)
    else:
        print("...     Modal is not available yet: the next checks run on this machine, with its own variables")
        findings = check_from_here(layout, local)
    if not print_findings(findings, print) or not has_modal:
        return 1
    if layout.gpu and not arguments.gpu:
        print(f"...     not tried, since it costs a few cents: {' or '.join(layout.gpu)}; trellis2 doctor --gpu does")
    print("Nothing is missing: modal deploy -m infra.app")
    return 0


def check_on_modal(layout: ModalSettings, local: Settings, *, starts_gpu: bool) -> Iterator[Finding]:
    """Check with the deployment's secrets and image, in a Modal app that ends with the checks."""
    from infra.doctor import modal_app

    try:
        with modal_app.app.run():
            bucket, findings = modal_app.check_bucket.remote()
            yield from findings
            yield compare_buckets(bucket, local)
            if layout.gpu:
                yield from modal_app.check_models.remote()
                yield from run_checks([checks.volume_checks(layout)])
            if layout.gpu and starts_gpu:
                yield from run_checks([checks.gpu_checks(layout, modal_app.name_gpu.spawn)])
    except Exception as error:  # noqa: BLE001 - every failure of Modal, the image or a container is a finding
        yield Finding("checks on Modal", f"{type(error).__name__}: {error}", "modal app list, modal app logs")


def check_from_here(layout: ModalSettings, local: Settings) -> Iterator[Finding]:
    """Check with this machine's own variables; the service will use Modal's secrets instead."""
    export = f"export {VARIABLES}"
    if "TRELLIS2_BUCKET" in os.environ:
        yield from run_checks([checks.bucket_checks(local, export)])
    else:
        yield Finding("bucket", "TRELLIS2_BUCKET is not set", export)
    if layout.gpu and find_spec("huggingface_hub"):
        yield from run_checks(checks.licence_checks(open_hub(os.environ.get("HF_TOKEN")), f"export {HUB_VARIABLE}"))


def compare_buckets(bucket: str, local: Settings) -> Finding:
    """Check that this machine names the secret's bucket too: `trellis2 keys` writes to it from here."""
    name = "this machine names the same bucket, for `trellis2 keys`"
    if bucket == checks.describe_bucket(local):
        return Finding(name)
    problem = f"the secret's is {bucket}, this machine's {checks.describe_bucket(local)}"
    return Finding(name, problem, f"export {VARIABLES}")
