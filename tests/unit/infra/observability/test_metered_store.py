"""A metered store does what its inner one does, and tells of each request."""

import pytest

from bench.support.memory_store import MemoryStore
from infra.observability.metrics import MeteredStore
from shared.errors import ObjectNotFound, PreconditionFailed
from tests.support.fakes import LossyStore, losing

Told = list[tuple[str, str]]


def metered(inner: MemoryStore) -> tuple[MeteredStore, Told]:
    """A store, and what it tells, the seconds apart."""
    told: Told = []
    return MeteredStore(inner, lambda operation, outcome, _: told.append((operation, outcome))), told


def test_each_request_is_told_with_its_outcome() -> None:
    """A refusal by its code; signing is no request."""
    store, told = metered(MemoryStore())
    etag = store.put("a", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("a", b"2", if_absent=True)
    with pytest.raises(ObjectNotFound):
        store.get("b")
    store.copy("a", "c", if_match=etag)
    store.delete("a")
    store.sign_get("c", expires_s=60)
    assert store.get("c").body == b"1"
    assert told == [
        ("put", "ok"),
        ("put", "precondition_failed"),
        ("get", "object_not_found"),
        ("copy", "ok"),
        ("delete", "ok"),
        ("get", "ok"),
    ]


def test_a_lost_answer_is_told_as_one() -> None:
    """Whatever became of the write."""
    store, told = metered(LossyStore(after_put=losing(1)))
    with pytest.raises(Exception, match="lost"):
        store.put("jobs/x/job.json", b"{}")
    assert told == [("put", "store_unavailable")]


def test_a_list_is_a_request_for_every_thousand() -> None:
    """And one where there is nothing."""
    store, told = metered(MemoryStore())
    assert list(store.list("none/")) == []
    for number in range(1_001):
        store.inner.put(f"some/{number:04d}", b"")
    assert len(list(store.list("some/"))) == 1_001
    assert told == [("list", "ok")] * 3
