"""Routes of the web app: the page at `/` and its files; it loads nothing from other hosts."""

import hashlib
from base64 import b64encode
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from api.context.dependencies import services_of
from api.http.problem_details import problem_response
from api.http.responses import StaticAsset
from shared.errors import StoreRefused
from shared.storage.ports import ObjectStore

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parents[1] / "web"
VIEWER = "vendor/model-viewer/model-viewer.min.js"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",  # licences
}
_A_YEAR = "public, max-age=31536000, immutable"
_ANY_KEY = "jobs/x"


@router.get("/")
async def read_page(request: Request) -> Response:
    """Return the page."""
    state, services = request.app.state, services_of(request)
    if not hasattr(state, "page_policy"):
        state.page_policy = await services.run(_policy, services.store)
    return _index().response(request, {"Content-Security-Policy": state.page_policy, "Cache-Control": "no-cache"})


@router.get("/page/{version}/{path:path}")
async def read_page_file(request: Request, version: str, path: str) -> Response:
    """Return a file of the page. Under the current version its bytes never change; older pages get the current file."""
    file = _files().get(path)
    if file is None:
        return problem_response(404, "Not found", code="not_found", detail="the web app has no such file")
    return file.response(request, {"Cache-Control": _A_YEAR if version == page_version() else "no-cache"})


@cache
def page_version() -> str:
    """Return a hash of all files. It is part of their URLs, so that browsers can cache them forever."""
    digest = hashlib.blake2b(digest_size=8)
    for path, file in sorted(_files().items()):
        digest.update(path.encode() + b"\0" + file.content)
    return digest.hexdigest()


@cache
def _files() -> dict[str, StaticAsset]:
    return {
        path.relative_to(FOLDER).as_posix(): StaticAsset(path.read_bytes(), _MEDIA_TYPES[path.suffix])
        for path in FOLDER.rglob("*")
        if path.is_file() and path.suffix in _MEDIA_TYPES
    }


@cache
def _index() -> StaticAsset:
    index = _files()["index.html"]
    return StaticAsset(index.content.replace(b"{version}", page_version().encode()), index.media_type)


def _policy(store: ObjectStore) -> str:
    """Return the Content-Security-Policy: the page loads itself, and results from the store.

    model-viewer keeps the textures that it unpacks in `blob:`, has a decoder in WebAssembly, and one inline style,
    which is named by its hash.
    """
    results = " ".join(["'self'", "blob:", *_store_origins(store)])
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            f"style-src 'self' '{_viewer_style_hash()}'",
            f"img-src data: {results}",
            f"connect-src {results}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _store_origins(store: ObjectStore) -> tuple[str, ...]:
    """Return the origins of signed URLs and forms; none if the gateway serves the store. Signing needs no request."""
    urls = [store.sign_get(_ANY_KEY, expires_s=1)]
    with suppress(StoreRefused):  # some stores accept no forms
        urls.append(store.sign_post(_ANY_KEY, max_bytes=1, expires_s=1).url)
    parts = [urlsplit(url) for url in urls]
    return tuple(sorted({f"{part.scheme}://{part.netloc}" for part in parts if part.netloc}))


@cache
def _viewer_style_hash() -> str:
    """Return the CSP source of the style that model-viewer adds to its shadow tree."""
    script = _files()[VIEWER].content.decode()
    _, _, rest = script.partition("<style>")
    style, _, _ = rest.partition("</style>")
    unescaped = style.encode().decode("unicode_escape") if "\\" in style else style
    return "sha256-" + b64encode(hashlib.sha256(unescaped.encode()).digest()).decode()
