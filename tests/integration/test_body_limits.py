"""Bodies that are too large or too slow, over raw sockets against a real server in a process of its own."""

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from shared.domain.parameters import MAX_IMAGE_BYTES
from tests.support.gateway_harness import IMAGE
from tests.support.gateway_process import GatewayProcess, run_gateway
from tests.support.waiting import HANG_S

BODY_S = 1.0
CHUNK = bytes(64_000)
ROUTES = [("/v1/jobs", "application/json"), ("/v1/jobs", "multipart/form-data; boundary=x"), ("/v1/uploads", "text/x")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for all; a body has a second to arrive. It must be well at the end."""
    with run_gateway(tmp_path_factory.mktemp("store"), body_s=BODY_S) as running:
        httpx.get(f"{running.url}/healthz", timeout=HANG_S)
        yield running
        assert httpx.get(f"{running.url}/healthz").status_code == 200


@pytest.fixture(scope="module")
def patient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with the default time for a body: how fast a large one arrives depends on the machine."""
    with run_gateway(tmp_path_factory.mktemp("patient")) as running:
        httpx.get(f"{running.url}/healthz", timeout=HANG_S)
        yield running


def opened(server: GatewayProcess, path: str, media_type: str, *headers: str) -> socket.socket:
    """A connection with the head of a POST sent."""
    connection = server.connect()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {media_type}", *headers, "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def answered(connection: socket.socket) -> tuple[int, str]:
    """(status, code) of the answer, read until the server closes."""
    received = b""
    with connection:
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["code"]


def peek(connection: socket.socket, wait_s: float) -> bool:
    """Whether an answer has begun, after `wait_s` at most."""
    connection.settimeout(wait_s)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        connection.settimeout(20)


@pytest.mark.parametrize(("path", "media_type"), ROUTES)
def test_fault_22_a_declared_oversize_is_refused_before_a_byte_of_it_is_sent(
    server: GatewayProcess, path: str, media_type: str
) -> None:
    """413 although only the head has come."""
    assert answered(opened(server, path, media_type, "Content-Length: 5000000000")) == (413, "body_too_large")


def test_fault_22_client_that_waits_for_100_continue_is_refused(server: GatewayProcess) -> None:
    """Without the 100."""
    connection = opened(server, *ROUTES[0], "Content-Length: 5000000000", "Expect: 100-continue")
    assert answered(connection) == (413, "body_too_large")


@pytest.mark.parametrize(("path", "media_type"), ROUTES[:2])
def test_fault_22_chunks_without_end_are_cut_at_the_limit(
    patient_server: GatewayProcess, path: str, media_type: str
) -> None:
    """413, and no more was read than the limit and what was in buffers."""
    connection = opened(patient_server, path, media_type, "Transfer-Encoding: chunked")
    form_head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    sent = 0
    with suppress(OSError):  # the server closes while we send
        for chunk in [form_head, *[CHUNK] * 2_000]:
            if peek(connection, 0.0001):
                break
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            sent += len(chunk)
    assert sent < MAX_IMAGE_BYTES * 4 // 3 + 16_000_000
    assert answered(connection) == (413, "body_too_large")


@pytest.mark.parametrize(("path", "media_type"), ROUTES[:2])
def test_fault_22_a_body_shorter_than_it_says_is_cut_in_time(
    server: GatewayProcess, path: str, media_type: str
) -> None:
    """408 after the time for a body is over."""
    began = time.monotonic()
    connection = opened(server, path, media_type, "Content-Length: 1000")
    connection.sendall(b"--x\r\n")
    assert answered(connection) == (408, "body_too_slow")
    assert time.monotonic() - began > BODY_S * 0.9


def test_fault_22_a_drip_is_cut_in_time_however_steady(server: GatewayProcess) -> None:
    """A byte every 50 ms would keep any idle timer happy."""
    connection = opened(server, *ROUTES[0], "Content-Length: 100000")
    while not peek(connection, 0.05):  # an idle timer alone would let this go on for ever
        connection.sendall(b" ")
    assert answered(connection) == (408, "body_too_slow")


def test_fault_22_a_body_longer_than_it_says_is_read_as_far_as_it_says(server: GatewayProcess) -> None:
    """What follows is no request, and the connection is closed; no job is created."""
    connection = opened(server, *ROUTES[0], "Content-Length: 10")
    connection.sendall(b'{"image": ' + b"x" * 5_000)
    with connection:
        status = int(re.match(rb"HTTP/1.1 (\d+)", connection.recv(65_536))[1])  # type: ignore[index]
    assert status == 400
    assert httpx.get(f"{server.url}/v1/jobs").json()["data"] == []


def test_fault_22_memory_is_flat_under_large_bodies(tmp_path: Path) -> None:
    """Five forms of the largest size at once hardly cost any; of five data URLs no more than two are held at a time."""
    image = IMAGE + bytes(MAX_IMAGE_BYTES - len(IMAGE))
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%b\r\n--x--\r\n' % image
    as_json = b'{"image":{"data":"data:;base64,%b"}}' % base64.b64encode(image)
    with run_gateway(tmp_path) as server:
        post_at_once(server, 5, form.replace(image, IMAGE), ROUTES[1][1])
        before = server.peak_bytes()
        post_at_once(server, 5, form, ROUTES[1][1])
        after_forms = server.peak_bytes()
        post_at_once(server, 5, as_json, ROUTES[0][1])
        after_json = server.peak_bytes()
    assert after_forms - before < 40_000_000
    assert after_json - before < 2 * 2 * len(as_json) + 40_000_000


def post_at_once(server: GatewayProcess, times: int, body: bytes, media_type: str) -> None:
    """Submit a body so many times at the same moment; all are accepted."""
    statuses: list[int] = []

    def post() -> None:
        answer = httpx.post(f"{server.url}/v1/jobs", content=body, headers={"Content-Type": media_type}, timeout=HANG_S)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=post) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [202] * times
