"""The HTTP server's threads."""

import os
import threading

import httpx
import pytest
from fastapi import FastAPI

from infra.runtime.http_server import Server


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system keeps threads to no core")
def test_the_gateway_keeps_to_one_core_and_leaves_the_others_alone() -> None:
    """Its loop and the threads that the loop starts; not the process around it."""
    app = FastAPI()

    @app.get("/cores")
    def cores() -> dict[str, list[int]]:
        assert threading.current_thread() is not threading.main_thread()
        return {"cores": sorted(os.sched_getaffinity(0))}

    before = os.sched_getaffinity(0)
    server = Server(app, "127.0.0.1", 0)
    url = server.start()
    try:
        assert len(httpx.get(f"{url}/cores").json()["cores"]) == 1
    finally:
        server.stop()
    assert os.sched_getaffinity(0) == before
