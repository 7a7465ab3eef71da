"""Submitting: what is accepted, what the answer says, and what each bad input gets."""

import base64
import json
from typing import Any

import pytest

from api.requests.job_request import CHUNK_CHARACTERS
from shared.domain.parameters import MAX_IMAGE_BYTES
from shared.storage import keys
from tests.support.gateway_harness import IMAGE, LOCAL, GatewayHarness, build_gateway, encode_image, public_egress

DATA_URL = "data:image/png;base64," + base64.b64encode(IMAGE).decode()


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service."""
    return build_gateway()


def refused(gateway: GatewayHarness, body: dict[str, Any]) -> list[tuple[str, str]]:
    """Submit JSON that is refused; (code, pointer) of each error. Nothing may have been stored."""
    answer = gateway.client.post("/v1/jobs", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == 422, answer.text
    assert gateway.stored() == [key for key in gateway.stored() if key.startswith("uploads/")]
    problem = answer.json()
    return [(problem["code"], error["pointer"]) for error in problem["errors"]]


# --- accepted


def test_a_form_is_answered_with_every_url_the_client_needs(gateway: GatewayHarness) -> None:
    """202, Location, Retry-After, ETag, and a body with URLs."""
    answer = gateway.client.post("/v1/jobs", files={"image": ("mug.png", IMAGE, "image/png")}, data={"preset": "web"})
    body = answer.json()
    url = f"{LOCAL}/v1/jobs/{body['id']}"
    assert answer.status_code == 202
    assert (answer.headers["location"], answer.headers["retry-after"]) == (url, "30")
    assert (body["status_url"], body["events_url"], body["cancel_url"]) == (url, f"{url}/events", f"{url}/cancel")
    assert (body["status"], body["engine"], body["preset"], body["result"]) == ("queued", "relief", "web", None)
    assert (body["queue_position"], body["eta_seconds"]) == (0, 30)
    assert body["parameters"]["decimation_target"] == 100_000


def test_an_accepted_job_is_stored_with_its_image_and_enqueued(gateway: GatewayHarness) -> None:
    """Record, input and markers are stored, and the id is enqueued once."""
    job_id = gateway.submit()["id"]
    job = gateway.job(job_id)
    assert gateway.queue.enqueued == [job_id]
    assert gateway.store.get(f"jobs/{job_id}/input.png").body == IMAGE
    assert (job.input.key, job.input.bytes) == (f"jobs/{job_id}/input.png", len(IMAGE))
    assert sorted(key.partition("/")[0] for key in gateway.stored()) == ["callers", "jobs", "jobs", "pending"]


@pytest.mark.parametrize("way", ["upload_id", "url", "data"])
def test_json_names_its_image_in_one_of_three_ways(gateway: GatewayHarness, way: str) -> None:
    """An upload, a URL that the worker fetches, or a data URL."""
    image = {"upload_id": gateway.uploaded(), "url": "https://shop.example/mug.png", "data": DATA_URL}[way]
    answer = gateway.client.post("/v1/jobs", json={"image": {way: image}, "preset": "game", "seed": 7})
    assert answer.status_code == 202, answer.text
    job = gateway.job(answer.json()["id"])
    if way == "url":
        assert (job.input.url, job.input.key) == (image, None)
    else:
        assert gateway.store.get(f"jobs/{job.id}/input.png").body == IMAGE
    assert (job.parameters.seed, job.parameters.texture_size) == (7, 1024)


def test_a_large_data_url_takes_the_way_over_the_disk(gateway: GatewayHarness) -> None:
    """An image of over a megabyte is stored unchanged."""
    noise = encode_image(8) + b"\0" * 2_000_000
    answer = gateway.client.post(
        "/v1/jobs", json={"image": {"data": "data:;base64," + base64.b64encode(noise).decode()}}
    )
    assert answer.status_code == 202, answer.text
    assert gateway.store.get(keys.job_input(answer.json()["id"], "png")).body == noise


@pytest.mark.parametrize(("format_", "extension"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_the_format_is_read_from_the_bytes_not_from_the_name(
    gateway: GatewayHarness, format_: str, extension: str
) -> None:
    """A JPEG named .png is stored as what it is."""
    answer = gateway.client.post("/v1/jobs", files={"image": ("x.png", encode_image(format_=format_), "image/png")})
    assert gateway.job(answer.json()["id"]).input.key == keys.job_input(answer.json()["id"], extension)


def test_form_fields_are_typed_as_in_json(gateway: GatewayHarness) -> None:
    """Numbers, booleans, text that looks like a number, and an object."""
    body = gateway.submit(
        seed="5", texture_size="2048", remesh="false", pipeline_type="512", custom_id="42",
        metadata='{"sku": "7"}', lane="interactive", engine="trellis",
    )  # fmt: skip
    parameters = body["parameters"]
    assert (parameters["seed"], parameters["texture_size"], parameters["remesh"]) == (5, 2048, False)
    assert (parameters["pipeline_type"], body["custom_id"], body["metadata"]) == ("512", "42", {"sku": "7"})
    assert (body["lane"], body["engine"]) == ("interactive", "trellis")


def test_a_seed_is_drawn_and_reported_where_none_was_given(gateway: GatewayHarness) -> None:
    """Two submits without a seed differ in it."""
    first, second = gateway.submit(), gateway.submit()
    assert first["seed"] == first["parameters"]["seed"]
    assert first["seed"] != second["seed"]


def test_an_explicit_parameter_wins_over_its_preset(gateway: GatewayHarness) -> None:
    """The preset sets the rest."""
    parameters = gateway.submit(preset="game", texture_size="512")["parameters"]
    assert (parameters["decimation_target"], parameters["texture_size"]) == (10_000, 512)


def test_a_well_formed_trace_context_stays_with_the_job(gateway: GatewayHarness) -> None:
    """traceparent is kept; a broken one is dropped without a word."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    kept = [
        gateway.job(gateway.submit({"traceparent": given})["id"]).traceparent for given in (good, good[:-1], "00-0-0")
    ]
    assert kept == [good, None, None]


def test_prefer_wait_answers_when_the_job_has_ended(gateway: GatewayHarness) -> None:
    """The answer is still 202, with the job as it ended, and says that the preference was applied."""
    gateway.time.then = [lambda: None, lambda: gateway.succeed(gateway.queue.dequeue() or "")]
    answer = gateway.client.post("/v1/jobs", files={"image": ("a.png", IMAGE)}, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")
    assert answer.headers["preference-applied"] == "wait=20"


# --- refused, before anything is stored


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1), ("seed", 2**32), ("seed", "7"), ("seed", 1.5), ("seed", True),
        ("texture_size", 1000), ("texture_size", "2048"), ("decimation_target", 999), ("decimation_target", 1_000_001),
        ("ss_guidance_strength", "high"), ("remesh", 1), ("texture_format", "gif"), ("background", "blur"),
        ("pipeline_type", "2048"), ("preset", "huge"), ("lane", "fast"), ("engine", "magic"), ("decimate", 5),
        ("custom_id", ""), ("custom_id", "a\nb"), ("custom_id", "x" * 101),
    ],
)  # fmt: skip
def test_unknown_and_out_of_range_parameters_are_refused_by_name(
    gateway: GatewayHarness, field: str, value: object
) -> None:
    """The pointer names the field."""
    assert refused(gateway, {"image": {"data": DATA_URL}, field: value}) == [("parameter_invalid", f"/{field}")]


def test_numbers_that_are_no_numbers_are_refused(gateway: GatewayHarness) -> None:
    """NaN and Infinity, which many JSON parsers accept."""
    for word in ("NaN", "Infinity"):
        body = f'{{"image": {{"data": "{DATA_URL}"}}, "ss_rescale_t": {word}}}'
        answer = gateway.client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text
    assert gateway.stored() == []


def test_all_errors_are_reported_at_once(gateway: GatewayHarness) -> None:
    """Three wrong fields, three errors."""
    body = {"image": {"data": DATA_URL}, "seed": -1, "metadata": {"a/b": 5}, "x": 1}
    assert sorted(refused(gateway, body)) == [
        ("parameter_invalid", "/metadata/a~1b"),
        ("parameter_invalid", "/seed"),
        ("parameter_invalid", "/x"),
    ]


@pytest.mark.parametrize(
    "image",
    [{}, {"upload_id": "up_1", "url": "https://a.example/"}, {"url": None}],
)
def test_an_image_is_named_in_exactly_one_way(gateway: GatewayHarness, image: dict[str, Any]) -> None:
    """None, two, or a null are refused."""
    assert refused(gateway, {"image": image}) == [("parameter_invalid", "/image")]


def test_metadata_is_bounded(gateway: GatewayHarness) -> None:
    """At most 50 entries of at most 500 characters."""
    assert refused(gateway, {"image": {"data": DATA_URL}, "metadata": {str(n): "" for n in range(51)}}) == [
        ("parameter_invalid", "/metadata")
    ]
    assert refused(gateway, {"image": {"data": DATA_URL}, "metadata": {"a": "x" * 501}}) == [
        ("parameter_invalid", "/metadata/a")
    ]


def as_data(body: bytes) -> dict[str, str]:
    """An image within JSON."""
    return {"data": "data:;base64," + base64.b64encode(body).decode()}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_an_image"),
        (b"<html><body>no</body></html>", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_unsupported"),
        (b"GIF89a" + bytes(20), "format_unsupported"),
        (IMAGE[:-20], "image_truncated"),
        (IMAGE[:-12], "image_truncated"),  # all but the end marker
    ],
)
@pytest.mark.parametrize("way", ["image", "data", "upload_id"])
def test_fault_11_what_is_no_picture_is_refused_at_once_in_every_way_of_sending(
    gateway: GatewayHarness, body: bytes, code: str, way: str
) -> None:
    """The same code however it was sent, with the field that named it, and nothing stored."""
    if way == "image":
        answer = gateway.client.post("/v1/jobs", files={"image": ("mug.png", body, "image/png")})
        assert answer.status_code == 422
        assert gateway.stored() == []
        assert (answer.json()["code"], answer.json()["errors"][0]["pointer"]) == (code, "/image")
    else:
        image = as_data(body) if way == "data" else {"upload_id": gateway.uploaded(body)}
        assert refused(gateway, {"image": image}) == [(code, f"/image/{way}")]


def test_a_picture_over_its_bytes_is_refused(gateway: GatewayHarness) -> None:
    """20 MB and one byte, as a form and as an upload."""
    big = IMAGE + bytes(MAX_IMAGE_BYTES + 1 - len(IMAGE))
    answer = gateway.client.post("/v1/jobs", files={"image": ("a.png", big)})
    assert (answer.status_code, answer.json()["code"]) == (422, "image_too_large")
    upload = {"upload_id": gateway.uploaded(big)}
    assert refused(gateway, {"image": upload}) == [("image_too_large", "/image/upload_id")]


def test_broken_base64_is_refused(gateway: GatewayHarness) -> None:
    """Not base64, padded in the middle (there where it is decoded in pieces too), and not a data URL at all."""
    padded_at_a_seam = "data:;base64," + "A" * (CHUNK_CHARACTERS - 2) + "==AAAA"
    for data in ("data:;base64,@@@", "data:;base64,AA==AAAA", padded_at_a_seam, "data:image/png,abc", "hello"):
        assert refused(gateway, {"image": {"data": data}}) == [("parameter_invalid", "/image/data")]


def test_an_upload_that_is_not_there_or_not_ones_own_is_not_found(gateway: GatewayHarness) -> None:
    """Unknown, malformed (a way out of the folder among them), and another caller's: one answer."""
    strange = gateway.uploaded(caller="mallory")
    for upload_id in ("up_01m87pc66kkf8q56k0eagz459p", "nope", "../../keys/x", strange):
        assert refused(gateway, {"image": {"upload_id": upload_id}}) == [("upload_not_found", "/image/upload_id")]


@pytest.mark.parametrize(
    "url",
    ["http://shop.example/a.png", "https://user:pw@shop.example/", "ftp://shop.example/", "https://127.0.0.1/",
     "https://shop.example:8443/", "https://[::1]/", "https://2130706433/", "https://shop.example/\r\nHost:x"],
)  # fmt: skip
def test_fault_20_forbidden_url_is_refused_like_an_unreachable_one(gateway: GatewayHarness, url: str) -> None:
    """One code and one sentence for all; nothing is dialled (the fake would fail the test)."""
    unreachable = build_gateway(egress=public_egress("10.0.0.1"))
    answers = [
        service.client.post("/v1/jobs", json={"image": {"url": image}})
        for service, image in ((gateway, url), (unreachable, "https://shop.example/a.png"))
    ]
    assert answers[0].status_code == 422
    assert answers[0].json() == answers[1].json()
    assert (answers[0].json()["code"], answers[0].json()["errors"][0]["pointer"]) == ("url_unreachable", "/image/url")


# --- what is not a submit at all


def test_other_media_types_are_415(gateway: GatewayHarness) -> None:
    """A body that is neither a form nor JSON."""
    answer = gateway.client.post("/v1/jobs", content=IMAGE, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (415, "media_type_unsupported")


def test_what_is_not_json_is_400(gateway: GatewayHarness) -> None:
    """Cut off in the middle."""
    answer = gateway.client.post("/v1/jobs", content=b'{"image":', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "body_malformed")


def test_a_form_without_a_boundary_is_400(gateway: GatewayHarness) -> None:
    """The parser's refusal, as a problem."""
    answer = gateway.client.post("/v1/jobs", content=b"x", headers={"content-type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["code"]) == (400, "body_malformed")


@pytest.mark.parametrize(
    ("files", "pointer"),
    [
        ([("picture", ("a.png", IMAGE))], "/picture"),
        ([("image", (None, b"https://x"))], "/image"),
        ([("image", ("a.png", IMAGE)), ("seed", (None, b"1")), ("seed", (None, b"2"))], "/seed"),
    ],
)
def test_a_form_has_one_file_named_image_and_each_field_once(gateway: GatewayHarness, files: Any, pointer: str) -> None:
    """Anything else is refused by name."""
    answer = gateway.client.post("/v1/jobs", files=files)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert json.dumps(gateway.stored()) == "[]"
