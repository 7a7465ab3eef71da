"""The Modal app that the doctor's checks run in, with the secrets and the image of the deployment.

It is an app of its own: checks in `infra.app` would first build that app's images and start its warm containers.
"""

import os
from typing import Any

import modal

from infra.doctor import checks
from infra.doctor.checks import HUB_VARIABLE, VARIABLES, Finding, run_checks, secret_command
from infra.modal_app import functions
from infra.modal_app.weights import open_hub
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings

SETTINGS = ModalSettings()

app = modal.App(f"{SETTINGS.app_name}-doctor")
cpu = functions.cpu_image()
bucket = modal.Secret.from_name(SETTINGS.bucket_secret, required_keys=["TRELLIS2_BUCKET"])
hub = modal.Secret.from_name(SETTINGS.huggingface_secret, required_keys=["HF_TOKEN"])
CHECKS: dict[str, Any] = {"image": cpu, "cpu": 0.25, "memory": 512, "env": SETTINGS.environment(), "timeout": 120}


@app.function(**CHECKS, secrets=[bucket])
def check_bucket() -> tuple[str, list[Finding]]:
    """Check the bucket that the secret names; return its name with the findings."""
    settings = Settings(store="s3")
    group = checks.bucket_checks(settings, secret_command(SETTINGS.bucket_secret, VARIABLES, replace=True))
    return checks.describe_bucket(settings), list(run_checks([group]))


@app.function(**CHECKS, secrets=[hub] if SETTINGS.gpu else [])
def check_models() -> list[Finding]:
    """Check which models the secret's token may read."""
    hub_api = open_hub(os.environ.get("HF_TOKEN"))
    renew = secret_command(SETTINGS.huggingface_secret, HUB_VARIABLE, replace=True)
    return list(run_checks(checks.licence_checks(hub_api, renew)))


@app.function(image=cpu, gpu=list(SETTINGS.gpu) or None, env=SETTINGS.environment(), timeout=120)
def name_gpu() -> str:
    """Name the GPU that a worker would get."""
    return functions.name_gpu()
