"""The service explains itself: a valid OpenAPI 3.1 document with examples for every route; pages that need nothing."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from api.openapi.responses import CODES
from tests.support.gateway_harness import GatewayHarness, build_gateway

ROUTES = {
    "POST /v1/uploads",
    "POST /v1/jobs",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/events",
    "POST /v1/jobs/{job_id}/cancel",
    "POST /v1/jobs/{job_id}/retry",
    "DELETE /v1/jobs/{job_id}",
    "POST /v1/jobs/{job_id}/exports",
    "GET /v1/jobs/{job_id}/artifacts/{name}",
    "POST /v1/batches",
    "GET /v1/batches",
    "GET /v1/batches/{batch_id}",
    "GET /v1/batches/{batch_id}/items",
    "GET /v1/batches/{batch_id}/results.jsonl",
    "GET /v1/batches/{batch_id}/results.csv",
    "GET /v1/batches/{batch_id}/results.zip",
    "GET /v1/batches/{batch_id}/errors.csv",
    "POST /v1/batches/{batch_id}/confirm",
    "POST /v1/batches/{batch_id}/pause",
    "POST /v1/batches/{batch_id}/resume",
    "POST /v1/batches/{batch_id}/cancel",
    "POST /v1/batches/{batch_id}/retry",
    "GET /v1/webhook-endpoints",
    "POST /v1/webhook-endpoints",
    "GET /v1/webhook-endpoints/{endpoint_id}",
    "PATCH /v1/webhook-endpoints/{endpoint_id}",
    "DELETE /v1/webhook-endpoints/{endpoint_id}",
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret",
    "POST /v1/webhook-endpoints/{endpoint_id}/test",
    "GET /v1/webhook-deliveries",
    "GET /v1/webhook-deliveries/{delivery_id}",
    "POST /v1/webhook-deliveries/{delivery_id}/redeliver",
    "GET /v1/usage",
    "GET /healthz",
    "GET /readyz",
}


@pytest.fixture(scope="module")
def gateway() -> GatewayHarness:
    """A service."""
    return build_gateway()


@pytest.fixture(scope="module")
def document(gateway: GatewayHarness) -> dict[str, Any]:
    """Its OpenAPI document."""
    return dict(gateway.client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(METHOD path, operation) of each."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every body of an operation, coming and going."""
    yield from operation.get("requestBody", {}).get("content", {}).values()
    for response in operation["responses"].values():
        yield from response.get("content", {}).values()


def test_the_document_is_valid_openapi_31_and_has_every_route(document: dict[str, Any]) -> None:
    """By the specification's own schema."""
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert {name for name, _ in operations(document)} == ROUTES


def test_every_body_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    """Requests, answers and problems."""
    for name, operation in operations(document):
        for content in contents(operation):
            examples = (
                [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]
            )
            assert examples, name
            validator = Draft202012Validator({**content["schema"], "components": document["components"]})
            for example in examples:
                validator.validate(example)


def test_every_webhook_is_described_with_an_example_that_fits(document: dict[str, Any]) -> None:
    """One for each end of a job, its progress, and the test; with the three headers that sign it."""
    assert set(document["webhooks"]) == {
        "job.succeeded", "job.failed", "job.canceled", "job.expired", "job.progress", "webhook.test",
        "batch.awaiting_confirmation", "batch.completed", "batch.stopped", "batch.canceled", "batch.failed",
    }  # fmt: skip
    for event, item in document["webhooks"].items():
        content = item["post"]["requestBody"]["content"]["application/json"]
        validator = Draft202012Validator({**content["schema"], "components": document["components"]})
        validator.validate(content["example"])
        assert content["example"]["type"] == event
        headers = [parameter["name"] for parameter in item["post"]["parameters"]]
        assert headers == ["webhook-id", "webhook-timestamp", "webhook-signature"]


def test_every_link_leads_to_a_parameter_of_an_operation(document: dict[str, Any]) -> None:
    """Of those that the document has."""
    known = {
        operation["operationId"]: {parameter["name"] for parameter in operation.get("parameters", [])}
        for _, operation in operations(document)
    }
    links = [
        link
        for _, operation in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert len(links) > 20
    for link in links:
        assert set(link.get("parameters", {})) <= known[link["operationId"]]


def test_every_route_declares_its_problems(document: dict[str, Any]) -> None:
    """500 everywhere, 401 wherever a key is needed, 404 wherever a job is named, with codes that exist."""
    for name, operation in operations(document):
        responses = operation["responses"]
        assert "500" in responses, name
        assert ("401" in responses) == ("security" in operation) == name.partition(" ")[2].startswith("/v1/"), name
        assert ("404" in responses) == ("_id}" in name), name
        for status, response in responses.items():
            for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                assert str(CODES[code][0]) == status


def test_the_examples_of_a_submit_are_accepted(gateway: GatewayHarness, document: dict[str, Any]) -> None:
    """As they stand, once the upload that they name is there."""
    example = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["example"]
    gateway.store.put(f"uploads/local/{example['image']['upload_id']}", gateway.store.get(picture_key(gateway)).body)
    answer = gateway.client.post("/v1/jobs", json=example)
    assert answer.status_code == 202, answer.text
    declared = document["components"]["schemas"]["JobBody"]["properties"]
    assert sorted(answer.json()) == sorted(declared)


def picture_key(gateway: GatewayHarness) -> str:
    """Return where a valid image is."""
    return gateway.job(gateway.submit()["id"]).input.key or ""


def test_the_docs_page_fetches_nothing_from_elsewhere(gateway: GatewayHarness) -> None:
    """No script, no link to another host in what a browser loads."""
    answer = gateway.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|src=", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_docs_name_every_route_and_explain_every_code(gateway: GatewayHarness) -> None:
    """A problem's `type` leads to a row of the page."""
    page = gateway.client.get("/docs").text
    for route in ROUTES:
        assert route in page
    for answer in (gateway.client.get("/nowhere"), gateway.client.get("/v1/jobs/nope")):
        _, _, anchor = answer.json()["type"].partition("/docs#")
        assert f"id='{anchor}'" in page


def test_a_document_that_is_known_is_not_sent_again_and_travels_compressed(gateway: GatewayHarness) -> None:
    """By its ETag; to clients that take gzip."""
    answer = gateway.client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert (
        "content-encoding" not in gateway.client.get("/openapi.json", headers={"Accept-Encoding": "identity"}).headers
    )
    known = gateway.client.get("/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
