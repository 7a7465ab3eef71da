"""What comes of a store that fails, stays silent, loses answers or brings broken bodies: real server, broken line."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bench.support.ceph import Ceph, make_bucket, on_ceph
from bench.support.fault_proxy import (
    FaultProxy,
    Rule,
    delay_response,
    drop_connection,
    flip_bit,
    lose_response,
    refuse,
    shift_clock,
    shorten_body,
    stay_silent,
    truncate_response,
)
from infra.s3.store import S3Store
from shared.domain.job import Artifact, Stage, Status
from shared.errors import JobNotFound, StoreRefused, StoreUnavailable
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import JobRepository, lease_is_over
from shared.storage import keys
from tests.support.fakes import new_job, no_pause, submitted

pytestmark = on_ceph
BUCKET = "faults"
MODEL = b"glTF" + bytes(200_000)


@pytest.fixture(scope="module")
def bucket(ceph: Ceph) -> str:
    """A bucket of these tests' own."""
    make_bucket(ceph, BUCKET)
    return BUCKET


@pytest.fixture
def proxy(ceph: Ceph) -> Iterator[FaultProxy]:
    """A line to the store that each test breaks in its own way."""
    with FaultProxy(ceph.http_url) as proxy:
        yield proxy


@pytest.fixture
def store(ceph: Ceph, bucket: str, proxy: FaultProxy) -> S3Store:
    """The store over that line, probed while it was still whole."""
    return open_store(ceph, bucket, proxy)


def open_store(ceph: Ceph, bucket: str, proxy: FaultProxy) -> S3Store:
    """A store over the line."""
    store = S3Store(replace(ceph.options(bucket), endpoint_url=proxy.url), pause=no_pause)
    store.probe()
    proxy.calls.clear()
    return store


@pytest.fixture
def jobs(store: S3Store) -> JobRepository:
    """A job repository in that store."""
    return build_job_repository(store, pause=no_pause)


def put_model(store: S3Store, job_id: str) -> Artifact:
    """Store an artifact as a worker does."""
    key = keys.artifact(job_id, 1, "model.glb")
    store.put(key, MODEL, content_type="model/gltf-binary")
    return Artifact(
        key=key, bytes=len(MODEL), sha256=hashlib.sha256(MODEL).hexdigest(), content_type="model/gltf-binary"
    )


def live(jobs: JobRepository, store: S3Store) -> str:
    """One job's whole life; its id."""
    job = submitted(jobs)
    held = jobs.claim(job.id, "worker-1")
    assert held
    held = jobs.renew(held, stage=Stage.SHAPE, progress=0.5)
    jobs.succeed(held, artifacts={"model": put_model(store, job.id)}, timings={"shape": 1.0})
    return job.id


def test_fault_12_jobs_succeed_though_a_fifth_of_calls_fail(
    jobs: JobRepository, store: S3Store, proxy: FaultProxy
) -> None:
    """500, 503 and SlowDown: tried again until it holds, in one attempt per job, and nothing is left open."""
    proxy.rules += [
        Rule(refuse(500, "InternalError"), rate=0.07),
        Rule(refuse(503, "ServiceUnavailable"), rate=0.14),
        Rule(refuse(503, "SlowDown"), rate=0.20),
    ]
    ids = [live(jobs, store) for _ in range(15)]
    proxy.rules.clear()
    job_list = [jobs.read(job_id).record for job_id in ids]
    assert Counter((job.status, job.attempt) for job in job_list) == {(Status.SUCCEEDED, 1): 15}
    assert [store.get(job.artifacts["model"].key).body == MODEL for job in job_list] == [True] * 15


def test_fault_13_lost_answer_to_create_is_recognised(jobs: JobRepository, proxy: FaultProxy) -> None:
    """The record carries the id of its write: it is there, and it is ours."""
    job = new_job(jobs.now())
    proxy.rules.append(Rule(lose_response, method="PUT", path="job.json", times=1))
    created = jobs.create(job)
    assert jobs.read(job.id) == replace(created, age_s=jobs.read(job.id).age_s)
    assert [method for method, _ in proxy.calls][:2] == ["PUT", "GET"]


def test_fault_13_lost_answers_to_changes_are_recognised(jobs: JobRepository, proxy: FaultProxy) -> None:
    """Claim, renewal and settlement each happen once, though no answer of theirs arrives."""
    job = submitted(jobs)
    proxy.rules.append(Rule(lose_response, method="PUT", path="job.json"))
    held = jobs.claim(job.id, "worker-1")
    assert held
    held = jobs.renew(held, stage=Stage.SHAPE, progress=0.5)
    finished = jobs.succeed(held, artifacts={}, timings={})
    assert (finished.record.status, finished.record.attempt) == (Status.SUCCEEDED, 1)
    assert finished.record.version == jobs.read(job.id).record.version == job.version + 3


def test_fault_13_lost_answer_to_an_artifact_is_written_again(store: S3Store, proxy: FaultProxy, folder: str) -> None:
    """Same key, same bytes, from where its file stood."""
    proxy.rules.append(Rule(lose_response, method="PUT", path="model.glb", times=2))
    file = BytesIO(b"skipped" + MODEL)
    file.seek(7)
    etag = store.put(f"{folder}model.glb", file)
    fetched = store.get(f"{folder}model.glb")
    assert (fetched.etag, fetched.body) == (etag, MODEL)


def test_fault_13_a_create_that_never_arrived_is_tried_again(jobs: JobRepository, proxy: FaultProxy) -> None:
    """From the outside it looks the same."""
    job = new_job(jobs.now())
    proxy.rules.append(Rule(drop_connection, method="PUT", path="job.json", times=3))
    assert jobs.create(job).record.write_id == jobs.read(job.id).record.write_id


def test_fault_14_a_silent_store_is_given_up(ceph: Ceph, bucket: str, proxy: FaultProxy, folder: str) -> None:
    """After the call's own deadline, whatever the call was."""
    options = replace(ceph.options(bucket), endpoint_url=proxy.url, read_timeout_s=0.1, deadline_s=0.3)
    store = S3Store(options, pause=no_pause)
    proxy.rules.append(Rule(stay_silent))
    for call in (
        lambda: store.get(f"{folder}a"),
        lambda: store.put(f"{folder}a", b"hello"),
        lambda: store.put(f"{folder}a", b"hello", if_absent=True),
        lambda: list(store.list(folder)),
        lambda: store.delete(f"{folder}a"),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    assert len(proxy.calls) <= 1 + 4 * 4


def test_fault_14_a_conditional_write_is_never_repeated(store: S3Store, proxy: FaultProxy, folder: str) -> None:
    """The retry would meet its own first write and take it for another writer's."""
    proxy.rules.append(Rule(lose_response, method="PUT"))
    with pytest.raises(StoreUnavailable):
        store.put(f"{folder}a", b"hello", if_absent=True)
    assert [method for method, _ in proxy.calls] == ["PUT"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (403, "QuotaExceeded"),
        (404, "NoSuchBucket"),
        (501, "NotImplemented"),
        (507, "InsufficientStorage"),
    ],
)
def test_fault_14_a_store_that_refuses_is_not_asked_again(
    store: S3Store, proxy: FaultProxy, folder: str, status: int, code: str
) -> None:
    """Key, permission, bucket or space: a person must act."""
    proxy.rules.append(Rule(refuse(status, code)))
    for call in (lambda: store.get(f"{folder}a"), lambda: store.put(f"{folder}a", b"hello")):
        with pytest.raises(StoreRefused, match=code):
            call()
    assert len(proxy.calls) == 2


def test_fault_14_jobs_stay_queued_while_the_store_refuses(jobs: JobRepository, proxy: FaultProxy) -> None:
    """And run when it takes us back."""
    job = submitted(jobs)
    proxy.rules.append(Rule(refuse(403, "AccessDenied")))
    with pytest.raises(StoreRefused):
        jobs.claim(job.id, "worker-1")
    proxy.rules.clear()
    assert jobs.read(job.id).record.status is Status.QUEUED
    assert jobs.claim(job.id, "worker-1")


@pytest.mark.parametrize("broken", [truncate_response, shorten_body, flip_bit])
def test_fault_14_a_broken_body_is_asked_for_again(store: S3Store, proxy: FaultProxy, folder: str, broken: Any) -> None:
    """Cut off, cut short, or changed on its way."""
    store.put(f"{folder}model.glb", MODEL)
    proxy.rules.append(Rule(broken, method="GET", times=2))
    assert store.get(f"{folder}model.glb").body == MODEL


@pytest.mark.parametrize("broken", [truncate_response, shorten_body, flip_bit])
def test_fault_14_a_broken_body_is_never_served(store: S3Store, proxy: FaultProxy, folder: str, broken: Any) -> None:
    """Rather nothing than something else."""
    store.put(f"{folder}model.glb", MODEL)
    proxy.rules.append(Rule(broken, method="GET"))
    with pytest.raises(StoreUnavailable):
        store.get(f"{folder}model.glb")


@pytest.mark.parametrize("broken", [truncate_response, shorten_body])
def test_fault_14_a_short_range_is_asked_for_again(store: S3Store, proxy: FaultProxy, folder: str, broken: Any) -> None:
    """The length of a part is known without its hash."""
    store.put(f"{folder}model.glb", MODEL)
    proxy.rules.append(Rule(broken, method="GET", times=1))
    assert store.get(f"{folder}model.glb", first_byte=2, length=100).body == MODEL[2:102]


def test_fault_14_a_broken_list_is_asked_for_again(store: S3Store, proxy: FaultProxy, folder: str) -> None:
    """Half a page is no page."""
    store.put(f"{folder}a", b"")
    proxy.rules.append(Rule(truncate_response, method="GET", times=1))
    proxy.rules.append(Rule(shorten_body, method="GET", times=1))
    assert [entry.key for entry in store.list(folder)] == [f"{folder}a"]


def test_fault_14_a_body_that_drips_is_given_up(ceph: Ceph, bucket: str, proxy: FaultProxy, folder: str) -> None:
    """Each piece in time, the whole never."""
    open_store(ceph, bucket, proxy).put(f"{folder}model.glb", MODEL)
    options = replace(ceph.options(bucket), endpoint_url=proxy.url)
    with pytest.raises(StoreUnavailable, match="too slowly"):
        S3Store(options, monotonic=count(0, 60).__next__).get(f"{folder}model.glb")


def test_fault_14_no_try_begins_after_the_deadline(ceph: Ceph, bucket: str, proxy: FaultProxy, folder: str) -> None:
    """Whoever waits has a lease to keep."""
    proxy.rules.append(Rule(refuse(503, "SlowDown")))
    options = replace(ceph.options(bucket), endpoint_url=proxy.url)
    with pytest.raises(StoreUnavailable):
        S3Store(options, pause=no_pause, monotonic=count(0, 60).__next__).get(f"{folder}a")
    assert len(proxy.calls) == 1


def test_a_late_answer_is_an_answer(store: S3Store, proxy: FaultProxy, folder: str) -> None:
    """Within the deadline."""
    proxy.rules.append(Rule(delay_response(0.05)))
    store.put(f"{folder}a", b"hello")
    assert store.get(f"{folder}a").body == b"hello"


def test_a_missing_job_is_missing_over_a_bad_line(jobs: JobRepository, proxy: FaultProxy) -> None:
    """Not found is an answer, not a fault."""
    proxy.rules.append(Rule(drop_connection, times=2))
    with pytest.raises(JobNotFound):
        jobs.read(keys.new_id("job", jobs.now()))


@pytest.mark.parametrize("minutes", [-10, 10])
def test_fault_18_leases_and_order_follow_the_stores_clock(
    ceph: Ceph, bucket: str, proxy: FaultProxy, minutes: int
) -> None:
    """A machine ten minutes off its store sees fresh leases as fresh, and dates jobs as the store does."""
    shift = timedelta(minutes=minutes)
    proxy.rules.append(Rule(shift_clock(shift)))
    jobs = build_job_repository(open_store(ceph, bucket, proxy), pause=no_pause)
    job = submitted(jobs)
    jobs.claim(job.id, "worker-1")
    assert not lease_is_over(jobs.read(job.id))
    assert jobs.claim(job.id, "worker-2") is None
    assert abs(job.created_at - (datetime.now(UTC) + shift)) < timedelta(seconds=3)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_fault_18_signed_urls_are_dated_by_the_stores_clock(
    ceph: Ceph, bucket: str, proxy: FaultProxy, minutes: int, folder: str
) -> None:
    """A URL for a minute lasts a minute there, though the machine that signs it is ten minutes off."""
    shift = timedelta(minutes=minutes)
    proxy.rules.append(Rule(shift_clock(shift)))
    store = open_store(ceph, bucket, proxy)
    query = parse_qs(urlsplit(store.sign_get(f"{folder}a", expires_s=60)).query)
    signed_at = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    form = store.sign_post(f"{folder}a", max_bytes=1, expires_s=60)
    assert abs(signed_at - (datetime.now(UTC) + shift)) < timedelta(seconds=3)
    assert form.fields["x-amz-date"][:13] == query["X-Amz-Date"][0][:13]
