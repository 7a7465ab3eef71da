"""Give schemathesis what it cannot generate: images and allowed webhook URLs. Loaded by SCHEMATHESIS_HOOKS."""

import base64
import os
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import schemathesis

from api.schemas.jobs import MAX_URL_CHARACTERS
from tests.support.gateway_harness import IMAGE
from tests.support.waiting import HANG_S

SOURCES = {"upload_id", "url", "data"}
DATA_URL = f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}"
HOOK = os.environ["SCHEMATHESIS_RECEIVER"]


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Replace images by a valid one and URLs by an allowed one; keep values that are meant to be invalid."""
    if not isinstance(body, dict):
        return body
    path = context.operation.path
    if path == "/v1/jobs" and _is_image_source(body.get("image")):
        body = {**body, "image": {"data": DATA_URL} if isinstance(body["image"], dict) else IMAGE}
    if isinstance(body.get("webhook"), dict) and _is_address(body["webhook"].get("url")):
        body = {**body, "webhook": {**body["webhook"], "url": HOOK}}
    if path.startswith("/v1/webhook-endpoints") and _is_address(body.get("url")):
        body = {**body, "url": HOOK}
    return body


def _is_image_source(image: Any) -> bool:
    if isinstance(image, dict):
        return len(image) == 1 and all(isinstance(value, str) for value in image.values()) and image.keys() < SOURCES
    return isinstance(image, bytes)


def _is_address(url: Any) -> bool:
    return isinstance(url, str) and 1 <= len(url) <= MAX_URL_CHARACTERS


@schemathesis.hook
def map_query(_context: Any, query: Any) -> Any:
    """Wait for a second at most."""
    return {**query, "wait": 1} if isinstance(query, dict) and isinstance(query.get("wait"), int) else query


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Wait for the job's end before its artifacts are requested."""
    if case.operation.path == "/v1/jobs/{job_id}/artifacts/{name}":
        job_id = quote(str(case.path_parameters["job_id"]), safe="")
        with suppress(httpx.HTTPError):
            httpx.get(f"{case.operation.base_url.rstrip('/')}/v1/jobs/{job_id}?wait=10", timeout=HANG_S)
