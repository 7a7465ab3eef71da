"""Who may call: API keys, and this machine alone while there is none."""

from datetime import timedelta

import pytest

from api.limits.api_keys import Scope, create_key, list_keys, revoke_key
from shared.errors import ObjectNotFound, ParameterInvalid
from tests.support.gateway_harness import IMAGE, GatewayHarness, build_gateway

ALL = frozenset(Scope)


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service without a key."""
    return build_gateway()


def bearer(token: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {token}"}


def a_key(gateway: GatewayHarness, caller: str = "alice", scopes: frozenset[Scope] = ALL) -> str:
    """A fresh key of a caller."""
    return create_key(gateway.store, caller=caller, name="test", scopes=scopes)[1]


# --- without a key


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_without_a_key_this_machine_is_served(address: str) -> None:
    """Every loopback address."""
    assert build_gateway(address=address).client.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("address", ["192.168.1.7", "93.184.215.14", "::ffff:10.0.0.1", "fe80::1", "unix"])
def test_remote_clients_are_refused_while_there_is_no_key(address: str) -> None:
    """401, with a sentence on what to do."""
    answer = build_gateway(address=address).client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert "trellis2 keys create" in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_without_a_key_the_host_may_be_any_name_of_loopback(gateway: GatewayHarness, host: str) -> None:
    """With a port or without."""
    assert gateway.client.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost:80:80"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
    ],
)
def test_without_a_key_neither_a_web_page_nor_a_proxy_passes_for_this_machine(
    gateway: GatewayHarness, headers: dict[str, str]
) -> None:
    """A re-pointed name, a page of another origin, a relayed request."""
    for answer in (
        gateway.client.get("/v1/jobs", headers=headers),
        gateway.client.post("/v1/jobs", files={"image": ("a.png", IMAGE)}, headers=headers),
    ):
        assert answer.status_code == 401
    assert gateway.stored() == []


def test_a_page_of_this_machine_is_served(gateway: GatewayHarness) -> None:
    """The service's own page calls with an Origin."""
    assert gateway.client.get("/v1/jobs", headers={"Origin": "http://localhost:8080"}).status_code == 200


# --- with keys


def test_once_there_is_a_key_this_machine_needs_one_too(gateway: GatewayHarness) -> None:
    """Within the few seconds for which the gateway believes that there is none."""
    assert gateway.client.get("/v1/jobs").status_code == 200
    token = a_key(gateway)
    gateway.time.now_s += 5
    assert gateway.client.get("/v1/jobs").status_code == 401
    assert gateway.client.get("/v1/jobs", headers=bearer(token)).status_code == 200


def test_a_key_serves_from_anywhere_in_either_header() -> None:
    """Authorization, or X-API-Key where a proxy takes the other."""
    gateway = build_gateway(address="93.184.215.14", base_url="https://3d.example")
    token = a_key(gateway)
    for headers in (
        bearer(token),
        {"Authorization": f"bearer {token}"},
        {"X-API-Key": token},
        {"Authorization": "Basic cHJveHk6cHJveHk=", "X-API-Key": token},
    ):
        assert gateway.client.get("/v1/jobs", headers=headers).status_code == 200


def test_a_caller_sees_only_its_own_jobs(gateway: GatewayHarness) -> None:
    """Keys of one caller share jobs; another caller's see none of them."""
    alice, alice_too, bob = a_key(gateway), a_key(gateway), a_key(gateway, caller="bob")
    job_id = gateway.submit(bearer(alice))["id"]
    seen = [
        gateway.client.get(f"/v1/jobs/{job_id}", headers=bearer(key)).status_code for key in (alice, alice_too, bob)
    ]
    assert seen == [200, 200, 404]
    assert gateway.client.get("/v1/jobs", headers=bearer(bob)).json()["data"] == []
    assert gateway.job(job_id).caller == "alice"


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-1] + "_", lambda t: "t2_" + "0" * 26 + t[29:], lambda _: "", str.upper]
)
def test_a_wrong_key_opens_nothing(gateway: GatewayHarness, spoil: object) -> None:
    """Wrong secret, unknown id, empty, changed in case: one and the same answer."""
    token = a_key(gateway)
    answer = gateway.client.get("/v1/jobs", headers={"X-API-Key": spoil(token)})  # type: ignore[operator]
    assert (answer.status_code, answer.json()["detail"]) == (401, "this API key is unknown, expired or revoked")


def test_a_revoked_key_is_refused_within_ten_seconds(gateway: GatewayHarness) -> None:
    """Although its record was just in use."""
    token = a_key(gateway)
    assert gateway.client.get("/v1/jobs", headers=bearer(token)).status_code == 200
    revoke_key(gateway.store, next(iter(list_keys(gateway.store))).id)
    gateway.time.now_s += 9.9
    assert gateway.client.get("/v1/jobs", headers=bearer(token)).status_code == 401


def test_an_expired_key_is_refused_the_moment_it_expires(gateway: GatewayHarness) -> None:
    """By the store's clock."""
    expires_at = gateway.clock() + timedelta(seconds=60)
    _, token = create_key(gateway.store, caller="alice", name="short", scopes=ALL, expires_at=expires_at)
    gateway.clock.advance(59)
    assert gateway.client.get("/v1/jobs", headers=bearer(token)).status_code == 200
    gateway.clock.advance(1)
    assert gateway.client.get("/v1/jobs", headers=bearer(token)).status_code == 401


def test_a_scope_bounds_what_a_key_may_do(gateway: GatewayHarness) -> None:
    """403 names the scope that is missing."""
    reader, writer = a_key(gateway, scopes=frozenset({Scope.READ})), a_key(gateway, scopes=frozenset({Scope.WRITE}))
    refused = gateway.client.post("/v1/uploads", headers=bearer(reader))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert "jobs:write" in refused.json()["detail"]
    assert gateway.client.get("/v1/jobs", headers=bearer(writer)).status_code == 403
    assert gateway.client.get("/v1/jobs", headers=bearer(reader)).status_code == 200


# --- keys themselves


def test_the_store_never_holds_a_key(gateway: GatewayHarness) -> None:
    """Neither the key nor its secret part, only a hash."""
    token = a_key(gateway)
    everything = b"".join(gateway.store.get(key).body for key in gateway.stored())
    assert token.rpartition("_")[2].encode() not in everything
    assert token.partition("_")[2].partition("_")[2].encode() not in everything


def test_keys_are_listed_and_revoked_by_id(gateway: GatewayHarness) -> None:
    """Revoking twice keeps the first moment."""
    record, _ = create_key(gateway.store, caller="alice", name="laptop", scopes=ALL)
    first = revoke_key(gateway.store, record.id)
    gateway.clock.advance(5)
    assert revoke_key(gateway.store, record.id) == first
    assert list(list_keys(gateway.store)) == [first]
    assert first.revoked_at is not None


@pytest.mark.parametrize("key_id", ["key_01m87pc66kkf8q56k0eagz459p", "x", "../jobs/x"])
def test_revoking_an_unknown_key_says_so(gateway: GatewayHarness, key_id: str) -> None:
    """ObjectNotFound, also for what is no id."""
    with pytest.raises(ObjectNotFound):
        revoke_key(gateway.store, key_id)


@pytest.mark.parametrize("caller", ["", "a/b", "..", "-x", "a b", "x" * 64, "é"])
def test_a_caller_is_a_safe_part_of_a_key_in_the_store(gateway: GatewayHarness, caller: str) -> None:
    """Anything else is refused before it is written."""
    with pytest.raises(ParameterInvalid):
        create_key(gateway.store, caller=caller, name="n", scopes=ALL)
    assert gateway.stored() == []
