"""The doctor's checks of a bucket, on stores that keep their promises and on forms that do not."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from infra.doctor import Lacking, check_cors, check_form
from infra.memory import MemoryStore
from shared.ports import SignedPost
from tests.ports.adapters import Adapter


def test_a_store_that_keeps_the_limits_of_its_forms_passes(served: Adapter) -> None:
    """What fits is stored, a byte more is refused, and nothing stays behind."""
    check_form(served.store, served.http)
    assert list(served.store.list("uploads/doctor/")) == []


def test_a_bucket_without_cors_is_lacking(ceph_http: Adapter) -> None:
    """A browser could not upload to it."""
    with pytest.raises(Lacking, match=r"https://shop\.example"):
        check_cors(ceph_http.store, ceph_http.http, "https://shop.example")


class Lenient(MemoryStore):
    """A store that takes whatever a form brings."""

    def sign_post(self, key: str, *, max_bytes: int, expires_s: int) -> SignedPost:
        """A form that names only the key."""
        return SignedPost("https://store.test/", {"key": key, "max": str(max_bytes), "expires": str(expires_s)})

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Store it and say so."""
        body = request.read()
        key = body.split(b'name="key"\r\n\r\n')[1].split(b"\r\n")[0].decode()
        self.put(key, body.split(b"\r\n\r\n")[-1].split(b"\r\n--")[0])
        return httpx.Response(204, headers=self.headers)

    headers: Mapping[str, Any] = {"Access-Control-Allow-Origin": "*"}


def test_a_store_that_takes_more_than_its_form_allows_is_lacking() -> None:
    """Anybody could fill it."""
    store = Lenient()
    with pytest.raises(Lacking, match="65 bytes against a limit of 64 gave 204"):
        check_form(store, httpx.Client(transport=httpx.MockTransport(store.answer)))


def test_a_bucket_that_answers_every_origin_passes() -> None:
    """The form itself says who may upload."""
    store = Lenient()
    preflight = httpx.MockTransport(lambda _: httpx.Response(200, headers=store.headers))
    check_cors(store, httpx.Client(transport=preflight), None)
