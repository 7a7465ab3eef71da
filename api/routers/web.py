"""The web page at `/` and the files that it is made of; nothing comes from elsewhere."""

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
    """The page."""
    state, services = request.app.state, services_of(request)
    if not hasattr(state, "page_policy"):
        state.page_policy = await services.run(_policy, services.store)
    return _index().response(request, {"Content-Security-Policy": state.page_policy, "Cache-Control": "no-cache"})


@router.get("/page/{version}/{path:path}")
async def read_page_file(request: Request, version: str, path: str) -> Response:
    """A file of the page. Under the page's own version its bytes never change; an older page gets what there is now."""
    file = _files().get(path)
    if file is None:
        return problem_response(404, "Not found", code="not_found", detail="the page has no such file")
    return file.response(request, {"Cache-Control": _A_YEAR if version == page_version() else "no-cache"})


@cache
def page_version() -> str:
    """Another one for every change of the page: part of its files' URLs, so that browsers keep them for good."""
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
    """What the page may load: itself, and results from the store.

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
    """Where signed URLs and forms lead; none where the gateway serves them itself. Signing asks nobody."""
    urls = [store.sign_get(_ANY_KEY, expires_s=1)]
    with suppress(StoreRefused):  # some stores take no forms
        urls.append(store.sign_post(_ANY_KEY, max_bytes=1, expires_s=1).url)
    parts = [urlsplit(url) for url in urls]
    return tuple(sorted({f"{part.scheme}://{part.netloc}" for part in parts if part.netloc}))


@cache
def _viewer_style_hash() -> str:
    """The CSP source of the style that model-viewer puts into its own shadow tree."""
    script = _files()[VIEWER].content.decode()
    _, _, rest = script.partition("<style>")
    style, _, _ = rest.partition("</style>")
    unescaped = style.encode().decode("unicode_escape") if "\\" in style else style
    return "sha256-" + b64encode(hashlib.sha256(unescaped.encode()).digest()).decode()
