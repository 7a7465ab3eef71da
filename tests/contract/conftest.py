"""Adapters for every suite of a port, started once per run."""

import uuid
from collections.abc import Iterator

import pytest

from bench.support.ceph import Ceph, on_ceph
from shared.storage.ports import ObjectStore
from tests.contract.adapters import Adapter, ceph_adapter, embedded_adapter, memory_adapter

SERVED = ["embedded", pytest.param("ceph_http", marks=on_ceph), pytest.param("ceph_tls", marks=on_ceph)]


@pytest.fixture(scope="session")
def memory() -> Iterator[Adapter]:
    """The store in memory."""
    with memory_adapter() as adapter:
        yield adapter


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """The embedded store."""
    with embedded_adapter(tmp_path_factory.mktemp("embedded")) as adapter:
        yield adapter


@pytest.fixture(scope="session")
def ceph_http(ceph: Ceph) -> Iterator[Adapter]:
    """The store in a bucket, over HTTP."""
    with ceph_adapter(ceph, tls=False) as adapter:
        yield adapter


@pytest.fixture(scope="session")
def ceph_tls(ceph: Ceph) -> Iterator[Adapter]:
    """The store in a bucket, over TLS: the client library sends other headers there."""
    with ceph_adapter(ceph, tls=True) as adapter:
        yield adapter


@pytest.fixture(params=["memory", *SERVED])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Every adapter in turn."""
    found: Adapter = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest) -> Adapter:
    """Every adapter whose signed URLs lead somewhere."""
    found: Adapter = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(adapter: Adapter) -> ObjectStore:
    """A client of the adapter."""
    return adapter.store


@pytest.fixture
def folder() -> str:
    """A prefix of the test's own, for the stores outlive it."""
    return f"test-{uuid.uuid4().hex}/"
