"""What the doctor runs on Modal: an app of its own that is gone when the look is over. It sees what the service will.

Not functions of `infra.app`: a look would have to build that app's images first, and would start what is kept warm.
"""

import os

import modal

from infra.doctor.bucket import bucket_checks, place_of
from infra.doctor.check import Finding, find
from infra.doctor.modal import bucket_command, hub_command
from infra.doctor.models import licence_checks
from infra.modal_app import functions
from infra.modal_app.images import cpu_image
from infra.modal_app.weights import Hub
from infra.settings.modal import ModalSettings
from infra.settings.service import Settings

SETTINGS = ModalSettings()

app = modal.App(f"{SETTINGS.app_name}-doctor")
cpu = cpu_image()
bucket = modal.Secret.from_name(SETTINGS.bucket_secret, required_keys=["TRELLIS2_BUCKET"])
hub = modal.Secret.from_name(SETTINGS.huggingface_secret, required_keys=["HF_TOKEN"])


@app.function(image=cpu, cpu=0.25, memory=512, secrets=[bucket], env=SETTINGS.environment(), timeout=120)
def look_at_bucket() -> tuple[str, list[Finding]]:
    """Which bucket the secret names, and what it holds to."""
    settings = Settings(store="s3")
    return place_of(settings), list(find([bucket_checks(settings, bucket_command(SETTINGS, again=True))]))


@app.function(
    image=cpu,
    cpu=0.25,
    memory=512,
    secrets=[hub] if SETTINGS.gpu else [],
    env=SETTINGS.environment(),
    timeout=120,
)
def look_at_models() -> list[Finding]:
    """Which models the secret's token may read."""
    return list(find(licence_checks(Hub(os.environ.get("HF_TOKEN")), hub_command(SETTINGS, again=True))))


@app.function(image=cpu, gpu=list(SETTINGS.gpu) or None, env=SETTINGS.environment(), timeout=120)
def name_gpu() -> str:
    """The GPU that a worker would get."""
    return functions.name_gpu()
