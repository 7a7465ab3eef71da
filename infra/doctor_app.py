"""What the doctor runs on Modal: an app of its own that is gone when the look is over. It sees what the service will.

Not functions of `infra.app`: a look would have to build that app's images first, and would start what is kept warm.
"""

import os

import modal

from infra import roles
from infra.check import Finding, find
from infra.check_bucket import bucket_checks, place_of
from infra.check_modal import bucket_command, hub_command
from infra.check_models import licence_checks
from infra.image import cpu_image
from infra.modal_settings import ModalSettings
from infra.settings import Settings
from infra.weights import Hub

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
    return roles.name_gpu()
