"""Routes of the API reference: the OpenAPI document, and an HTML page of it that loads nothing from other hosts."""

import json
from html import escape
from typing import Any, cast

from fastapi import APIRouter, Request, Response

from api.http.responses import StaticAsset
from api.openapi.document import document
from api.openapi.responses import CODES

router = APIRouter(include_in_schema=False)

_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.7rem;overflow:auto;max-height:24rem}code{font-size:.9em}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}"
    "h2{margin-top:2.5rem}:root{color-scheme:light dark}"
)


@router.get("/openapi.json")
async def read_openapi(request: Request) -> Response:
    """Return the OpenAPI 3.1 document."""
    return _as_json(request).response(request, {"Cache-Control": "no-cache"})


@router.get("/docs")
async def read_docs(request: Request) -> Response:
    """Return the API reference as HTML."""
    reference = _document(request)
    operations = [
        _operation(method, path, operation)
        for path, methods in reference["paths"].items()
        for method, operation in methods.items()
    ]
    return _page("API reference", f"<h1>{escape(reference['info']['title'])}</h1>", *operations, _problems())


def _as_json(request: Request) -> StaticAsset:
    state = request.app.state
    if not hasattr(state, "openapi_json"):
        state.openapi_json = StaticAsset(json.dumps(_document(request)).encode(), "application/json")
    return cast(StaticAsset, state.openapi_json)


def _document(request: Request) -> dict[str, Any]:
    """Return the document; it is built once, because routes do not change while the process lives."""
    state = request.app.state
    if not hasattr(state, "openapi_document"):
        state.openapi_document = document(request.app, state.api_routes)
    return cast(dict[str, Any], state.openapi_document)


def _page(title: str, *parts: str) -> Response:
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>{''.join(parts)}"
    )
    return Response(page, headers=_HEADERS, media_type="text/html")


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(item['name'])}</code><td>{item['in']}<td>{escape(item.get('description', ''))}"
        for item in operation.get("parameters", [])
    )
    bodies = "".join(
        f"<p>Body, <code>{media_type}</code>:</p>{_example(content['example'])}"
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    answers = "".join(_answer(status, response) for status, response in operation["responses"].items())
    return (
        f"<h2 id='{operation['operationId']}'><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation['description'])}</p><table>{parameters}</table>{bodies}<p>Answers:</p>{answers}"
    )


def _answer(status: str, response: dict[str, Any]) -> str:
    heading = f"<p><b>{status}</b> {escape(response['description'])}</p>"
    examples = [content["example"] for content in response.get("content", {}).values() if "example" in content]
    return heading + "".join(map(_example, examples))


def _example(example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=2)
    return f"<pre>{escape(text)}</pre>"


def _problems() -> str:
    possible = {code: docs for code, docs in CODES.items() if docs[0] != 500 or code == "internal_error"}
    rows = "".join(
        f"<tr id='{code}'><td><code>{code}</code><td>{status}<td>{escape(meaning)}"
        for code, (status, _, meaning) in sorted(possible.items())
    )
    return f"<h2>Problems</h2><table><tr><th>code<th>status<th>meaning{rows}</table>"
