"""A browser, the whole service in this process, and pages whose every fault fails the test that opened them.

All of it ends with each module: Playwright's event loop lives in this thread, and no other may run beside it.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infra.local import Service
from infra.runtime.wiring import open_store
from infra.settings.service import Settings
from shared.net.egress import Egress
from tests.e2e.controllable_engine import Studio
from tests.support.webhook_receivers import Receiver
from worker.extraction.warmup import warm_up
from worker.runner.pipeline import JobPipeline

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: make install-dev")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_GL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_MS = 30_000
playwright.expect.set_options(timeout=WAIT_MS)
# The browser's own note of a refused request; what the page makes of it is what tests look at.
_EXPECTED = "Failed to load resource"
_TELL_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`))"""

OpenPage = Callable[..., "playwright.Page"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a parallel run all of these go to one process: one browser, one service."""
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Where webhooks may go."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def studio() -> Studio:
    """The engine."""
    return Studio()


@pytest.fixture(scope="module")
def service(
    studio: Studio, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[str]:
    """The whole service in this process; its URL."""
    folder = tmp_path_factory.mktemp("var")
    # One row at a time, so that a batch can be stopped between two.
    settings = Settings(
        data_dir=folder, port=0, reconcile_interval_s=0.5, batch_window=1, webhook_private_origins=(receiver.origin,)
    )
    assert pytestconfig.cache
    warm_up(pytestconfig.cache.mkdir("kernels"))  # compiled once for all runs
    steps = JobPipeline(open_store(settings), Egress(), {studio.name: studio})
    running = Service(settings, work=steps.run)
    running.start()
    yield running.base_url
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    """Chromium. Not to be had: a reason to skip on a laptop, a failure in CI."""
    if BROWSER is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("no Chromium; tests/install-peers installs it where it can")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=SOFTWARE_GL)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "playwright.Browser", service: str) -> Iterator[OpenPage]:
    """Opens pages of the service, each in a profile of its own; errors and policy violations in them fail the test."""
    faults: list[str] = []
    contexts: list[playwright.BrowserContext] = []

    def opened(
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
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(_TELL_VIOLATIONS)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda told: faults.append(told.text) if _is_fault(told) else None)
        page.goto(url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def _is_fault(told: "playwright.ConsoleMessage") -> bool:
    return told.type == "error" and not told.text.startswith(_EXPECTED)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str, NDArray[np.uint8]], Path]:
    """Writes a picture to a file."""

    def written(name: str, pixels: NDArray[np.uint8]) -> Path:
        (tmp_path / name).write_bytes(png(pixels))
        return tmp_path / name

    return written


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture as a file. pixels: uint8 [height, width, 3 or 4]."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
