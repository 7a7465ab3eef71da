"""The doctor's checks of a bucket, on stores that keep their contract and on some that do not."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from bench.support.ceph import Ceph
from bench.support.fault_proxy import FaultProxy, ProxiedRequest, Rule, pass_through, pretend_success
from bench.support.memory_store import MemoryStore
from infra.doctor.checks import (
    CheckFailed,
    Finding,
    bucket_checks,
    check_access_rights,
    check_form,
    check_reading,
    check_uploading,
    run_checks,
)
from infra.settings.service import Settings
from shared.storage.ports import SignedPost
from tests.contract.adapters import BUCKET, Adapter


def settings_of(ceph: Ceph, **changed: str) -> Settings:
    """The settings of a deployment on this gateway."""
    options = ceph.options(BUCKET)
    changed_from_default = {
        "bucket": BUCKET,
        "s3_endpoint": options.endpoint_url,
        "s3_region": options.region,
        "s3_access_key": options.access_key,
        "s3_secret_key": options.secret_key,
        "s3_addressing": options.addressing,
    }
    return Settings.model_validate({"store": "s3", **changed_from_default, **changed})


def failures(settings: Settings) -> list[Finding]:
    """The failed checks of a bucket, each with its fix."""
    return [finding for finding in run_checks([bucket_checks(settings, "FIX")]) if finding.problem]


@pytest.mark.usefixtures("ceph_http")
def test_a_real_bucket_passes_in_order_until_a_browser_asks(ceph: Ceph) -> None:
    """Reachable, conditions, forms; its CORS rules are not set, and the command names its endpoint."""
    findings = list(run_checks([bucket_checks(settings_of(ceph), "FIX")]))
    assert [finding.name for finding in findings] == [
        f"bucket {BUCKET} at {ceph.http_url} is reachable",
        "bucket keeps conditional writes",
        "bucket keeps the limits of signed forms",
        "bucket lets browsers read (CORS)",
    ]
    assert [bool(finding.problem) for finding in findings] == [False, False, False, True]
    assert f"--endpoint-url {ceph.http_url} --bucket {BUCKET}" in findings[-1].fix


@pytest.mark.usefixtures("ceph_http")
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"bucket": "no-such-bucket"}, "NoSuchBucket"),
        ({"s3_secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"s3_endpoint": "https://..."}, "Invalid endpoint"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, "Could not connect"),
    ],
)
def test_a_bucket_that_cannot_be_reached_ends_its_checks(ceph: Ceph, changed: dict[str, str], reason: str) -> None:
    """One failure, with its reason and its fix, whichever setting is wrong."""
    (failure,) = failures(settings_of(ceph, **changed))
    assert failure.name.endswith("is reachable")
    assert reason in failure.problem
    assert failure.fix == "FIX"


@pytest.mark.usefixtures("ceph_http")
def test_a_store_that_only_pretends_to_keep_conditions_is_found_out(ceph: Ceph) -> None:
    """It says yes to a write that its condition forbids: no job record is safe in it, so nothing else is checked."""

    def pretend(call: ProxiedRequest) -> None:
        (pretend_success if "if-none-match" in call.headers else pass_through)(call)

    with FaultProxy(ceph.http_url) as proxy:
        proxy.rules.append(Rule(pretend, method="PUT"))
        (failure,) = failures(settings_of(ceph, s3_endpoint=proxy.url))
    assert failure.name == "bucket keeps conditional writes"
    assert "overwrites in spite of If-None-Match" in failure.problem
    assert failure.fix.startswith("take a store that honours If-None-Match and If-Match")


def test_a_check_of_a_bucket_leaves_nothing_in_it(served: Adapter) -> None:
    """It lists, writes, reads and deletes, as the service will."""
    check_access_rights(served.store)
    assert list(served.store.list("uploads/doctor/")) == []


def test_a_store_that_keeps_the_limits_of_its_forms_passes(served: Adapter) -> None:
    """What fits is stored, a byte more is refused, and nothing stays behind."""
    check_form(served.store, served.http)
    assert list(served.store.list("uploads/doctor/")) == []


def test_a_bucket_without_cors_fails(ceph_http: Adapter) -> None:
    """A page could neither show its objects nor upload to it."""
    with pytest.raises(CheckFailed, match=r"https://shop\.example may not read from it"):
        check_reading(ceph_http.store, ceph_http.http, "https://shop.example")
    with pytest.raises(CheckFailed, match=r"https://shop\.example may not upload to it"):
        check_uploading(ceph_http.store, ceph_http.http, "https://shop.example")


def test_a_store_that_signs_no_forms_is_still_read_by_browsers() -> None:
    """As R2 is: no form is tried, and nothing is uploaded."""
    names = [check.name for check in bucket_checks(Settings(s3_signs_forms=False), "FIX")]
    assert names[1:] == ["bucket keeps conditional writes", "bucket lets browsers read (CORS)"]


class Lenient(MemoryStore):
    """A store that accepts every form."""

    def sign_get(self, key: str, *, expires_s: int, filename: str | None = None) -> str:  # noqa: ARG002 - for ever
        """Its plain address."""
        return f"https://store.test/{key}"

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


def test_a_store_that_takes_more_than_its_form_allows_fails() -> None:
    """Any caller could fill it."""
    store = Lenient()
    with pytest.raises(CheckFailed, match="65 bytes against a limit of 64 gave 204"):
        check_form(store, httpx.Client(transport=httpx.MockTransport(store.answer)))


def test_a_bucket_that_answers_every_origin_passes() -> None:
    """The form itself says who may upload."""
    store = Lenient()
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, headers=store.headers)))
    check_uploading(store, http, None)
    check_reading(store, http, None)
    assert list(store.list("uploads/doctor/")) == []
