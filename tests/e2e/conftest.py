"""A browser, the whole service in this process, and pages whose errors fail the test that opened them.

All fixtures end with each module: Playwright's event loop uses this thread, and no other loop can run in it.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infra.local import Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.net.egress import Egress
from tests.e2e.controllable_engine import ControllableEngine, plain_image
from tests.support.webhook_receivers import Receiver
from worker.extraction.export_asset import warm_up
from worker.runner.pipeline import JobPipeline

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: make install-dev")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_GL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
HANG_MS = 600_000  # ends a test that hangs; no test depends on how fast the machine is
playwright.expect.set_options(timeout=HANG_MS)
# The browser's own message about a refused request, which tests provoke on purpose.
_EXPECTED = "Failed to load resource"
_LOG_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`))"""

OpenPage = Callable[..., "playwright.Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all of these in one process of a parallel run: one browser, one service."""
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A receiver to which the service may send webhooks."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def engine() -> ControllableEngine:
    """The engine of the service."""
    return ControllableEngine()


@pytest.fixture(scope="module")
def service(
    engine: ControllableEngine,
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Start the whole service in this process; its URL."""
    folder = tmp_path_factory.mktemp("var")
    # One row at a time, so that a batch can be stopped between two.
    settings = Settings(
        data_dir=folder, port=0, reconcile_interval_s=0.5, batch_window=1, webhook_private_origins=(receiver.origin,)
    )
    warm_up(folder / "kernels")
    steps = JobPipeline(open_store(settings), Egress(), {engine.name: engine})
    running = Service(settings, work=steps.run)
    running.start()
    yield running.base_url
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """Start Chromium; without it skip the tests on a laptop, fail in CI."""
    if BROWSER is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no Chromium; tests/install-peers installs it where it can")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=SOFTWARE_GL)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "playwright.Browser", service: str) -> Iterator[OpenPage]:
    """Open pages of the service, each in its own profile; errors and policy violations in them fail the test."""
    errors: list[str] = []
    contexts: list[playwright.BrowserContext] = []

    def open_in_profile(
        path: str = "/", *, url: str = service, width: int = 1000, dark: bool = False, user_agent: str | None = None
    ) -> "playwright.Page":
        context = browser.new_context(
            user_agent=user_agent,
            viewport={"width": width, "height": 560},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
        )
        contexts.append(context)
        context.set_default_timeout(HANG_MS)
        context.add_init_script(_LOG_VIOLATIONS)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if _is_error(message) else None)
        page.goto(url + path)
        return page

    yield open_in_profile
    for context in contexts:
        context.close()
    assert errors == []


def _is_error(message: "playwright.ConsoleMessage") -> bool:
    return message.type == "error" and not message.text.startswith(_EXPECTED)


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[[str, NDArray[np.uint8]], Path]:
    """Write images to files."""

    def write(name: str, pixels: NDArray[np.uint8]) -> Path:
        (tmp_path / name).write_bytes(png(pixels))
        return tmp_path / name

    return write


def generate_block(service: str, *colour: int) -> str:
    """Submit an image of one colour and wait until its job has succeeded; the job's id."""
    files = {"image": ("block.png", png(plain_image(*colour)))}
    fields = {"preset": "low_poly", "pipeline_type": "512"}
    job = httpx.post(f"{service}/v1/jobs", files=files, data=fields, timeout=HANG_MS / 1000).json()
    while job["status"] in ("queued", "running"):
        job = httpx.get(f"{service}/v1/jobs/{job['id']}", params={"wait": 30}, timeout=HANG_MS / 1000).json()
    assert job["status"] == "succeeded"
    return str(job["id"])


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image as PNG. pixels: uint8 [height, width, 3 or 4]."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
