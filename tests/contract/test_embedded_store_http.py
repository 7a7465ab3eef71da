"""The HTTP routes of the embedded store: signed URLs with ranges, and signed forms as they stream in."""

import tracemalloc
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random

import pytest

from infra.embedded_store.http import CONTENT_TYPES
from shared.errors import ObjectNotFound
from tests.contract.adapters import Adapter, open_files
from worker.runner import job_function

BIG = Random(1).randbytes(200_000)
SMALL = BIG[:2_000]


@pytest.fixture(params=[BIG, SMALL], ids=["file", "inline"])
def content(request: pytest.FixtureRequest) -> bytes:
    """Content of an object, in a file or in its row."""
    body: bytes = request.param
    return body


@pytest.fixture
def url(embedded: Adapter, folder: str, content: bytes) -> Iterator[str]:
    """A signed URL of a model."""
    embedded.store.put(f"{folder}model.glb", content)
    yield embedded.store.sign_get(f"{folder}model.glb", expires_s=60)
    embedded.store.delete(f"{folder}model.glb")


def test_an_object_is_served_with_the_type_of_its_extension(embedded: Adapter, url: str, content: bytes) -> None:
    """No browser may guess another type."""
    response = embedded.http.get(url)
    headers = response.headers
    assert response.content == content
    assert (headers["content-type"], headers["x-content-type-options"]) == ("model/gltf-binary", "nosniff")
    assert headers["cache-control"].startswith("private, max-age=")


def test_an_object_is_served_with_the_date_of_the_store(
    embedded: Adapter, url: str, folder: str, content: bytes
) -> None:
    """Not with that of the file. To the second, as HTTP has it."""
    embedded.an_hour_ago.put(f"{folder}model.glb", content)
    modified_at = next(iter(embedded.store.list(folder))).modified_at
    assert parsedate_to_datetime(embedded.http.get(url).headers["last-modified"]) == modified_at.replace(microsecond=0)


def test_an_uploaded_page_is_not_served_as_html(embedded: Adapter, folder: str) -> None:
    """It must not run in the gateway's origin."""
    embedded.store.put(f"{folder}page.html", b"<script>")
    served = embedded.http.get(embedded.store.sign_get(f"{folder}page.html", expires_s=60))
    assert served.headers["content-type"] == "application/octet-stream"


def test_a_known_object_is_not_sent_again(embedded: Adapter, url: str) -> None:
    """If-None-Match, with one ETag, several, or any."""
    etag = embedded.http.get(url).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = embedded.http.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert embedded.http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_has_the_headers_of_get_and_no_body(embedded: Adapter, url: str, content: bytes) -> None:
    """Content-Length included."""
    head, got = embedded.http.head(url), embedded.http.get(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))
    assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=-3", 206, slice(-3, None)),
        ("bytes=1998-", 206, slice(1998, None)),
        ("bytes=300000-", 416, slice(0)),
        ("bytes=0-0", 206, slice(1)),
    ],
)
def test_ranges_are_served(
    embedded: Adapter, url: str, content: bytes, asked: str, status: int, expected: slice
) -> None:
    """From the start, from the end, and none past the end."""
    answer = embedded.http.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, content[expected])


def test_a_resumed_download_of_another_version_starts_over(embedded: Adapter, url: str, content: bytes) -> None:
    """If-Range: a part counts only while the ETag is the same."""
    etag = embedded.http.get(url).headers["etag"]
    for known, status, expected in ((etag, 206, content[5:]), ('"other"', 200, content)):
        answer = embedded.http.get(url, headers={"Range": "bytes=5-", "If-Range": known})
        assert (answer.status_code, answer.content) == (status, expected)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}])
def test_no_file_stays_open_after_a_response(embedded: Adapter, url: str, headers: dict[str, str]) -> None:
    """However much of the object was sent."""
    embedded.http.get(url, headers=headers)
    before = open_files()
    for _ in range(20):
        embedded.http.get(url, headers=headers)
        embedded.http.head(url, headers=headers)
    assert open_files() < before + 10


def test_a_signed_url_of_a_missing_object_is_not_found(embedded: Adapter, folder: str) -> None:
    """As a problem."""
    answer = embedded.http.get(embedded.store.sign_get(f"{folder}a", expires_s=60))
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unsigned_url_is_not_allowed(embedded: Adapter, url: str) -> None:
    """As a problem, which does not show whether the object exists."""
    for unsigned in (url.partition("?")[0], url.partition("?")[0] + "x", url.replace("expires=", "expires=x")):
        answer = embedded.http.get(unsigned)
        assert (answer.status_code, answer.json()["code"]) == (403, "signature_invalid")


def field(name: bytes, value: bytes) -> bytes:
    """One field of a form."""
    return b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)


def broken_forms(form: dict[str, str]) -> dict[str, tuple[str, bytes]]:
    """Bodies, and their types, of forms that are none."""
    kind, end = "multipart/form-data; boundary=cut", b"\r\n--cut--\r\n"
    fields = b"".join(field(name.encode(), value.encode()) for name, value in form.items())
    file = b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello'
    return {
        "not a form": ("application/json", b"{}"),
        "no boundary": ("multipart/form-data", fields + file + end),
        "no file": (kind, fields + b"--cut--\r\n"),
        "cut in the file": (kind, fields + file),
        "cut in the fields": (kind, fields[:-60]),
        "fields after the file": (kind, file + b"\r\n" + fields + end),
        "large fields": (kind, field(b"a", b"x" * 20_000) + fields + file + end),
        "many fields": (kind, b"".join(field(b"%d" % n, b"") for n in range(20)) + fields + file + end),
        "garbage": (kind, b"\x00" * 1000),
    }


@pytest.mark.parametrize("broken", broken_forms({}))
def test_fault_22_a_broken_form_writes_nothing(embedded: Adapter, folder: str, broken: str) -> None:
    """The answer: malformed, or not allowed where the file begins before the signed fields."""
    form = embedded.store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    kind, body = broken_forms(dict(form.fields))[broken]
    answer = embedded.http.post(form.url, content=body, headers={"Content-Type": kind})
    assert answer.status_code == (403 if broken == "fields after the file" else 400)
    assert list(embedded.store.list(folder)) == []


def test_what_follows_the_file_is_ignored(embedded: Adapter, folder: str) -> None:
    """As S3 ignores it: another field could otherwise change the key, and another file the content."""
    form = embedded.store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    parts = [(name, (None, value)) for name, value in form.fields.items()]
    more = [("key", (None, f"{folder}b")), ("file", ("b", b" and more"))]
    answer = embedded.http.post(form.url, files=[*parts, ("file", ("a", b"hello")), *more])
    assert answer.status_code == 204
    assert [(entry.key, entry.size_bytes) for entry in embedded.store.list(folder)] == [(f"{folder}a", 5)]


def test_fault_22_an_upload_without_end_takes_no_memory(embedded: Adapter, folder: str) -> None:
    """64 MB against a limit of 60: refused, after passing through less than 8, the client's own chunks included."""

    def endless() -> Iterator[bytes]:
        yield broken_forms(dict(form.fields))["cut in the file"][1]
        for _ in range(64):
            yield bytes(1_000_000)

    form = embedded.store.sign_post(f"{folder}a", max_bytes=60_000_000, expires_s=60)
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    tracemalloc.start()
    answer = embedded.http.post(form.url, content=endless(), headers=kind)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak_bytes < 8_000_000
    with pytest.raises(ObjectNotFound):
        embedded.store.get(f"{folder}a")


@pytest.mark.parametrize(("filename", "content_type"), job_function.CONTENT_TYPES.items())
def test_artifacts_have_the_content_type_that_a_bucket_gives_them(filename: str, content_type: str) -> None:
    """The content type that a bucket gets with the upload; the embedded store goes by the extension."""
    assert CONTENT_TYPES.get(Path(filename).suffix, "application/octet-stream") == content_type
