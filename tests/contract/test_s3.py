"""What the S3 store adds to the contract: stores that differ, and the clock that it learns."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.ceph import Ceph, make_bucket, on_ceph
from bench.support.fault_proxy import (
    Fault,
    FaultProxy,
    ProxiedRequest,
    Rule,
    pass_through,
    pretend_success,
    refuse,
    shift_clock,
)
from infra.s3.capabilities import NOTE, Capabilities
from infra.s3.signing import StoreClock
from infra.s3.store import S3Store
from infra.settings.service import S3Options
from shared.errors import PreconditionFailed, StoreRefused, StoreUnavailable
from tests.support.fakes import no_pause

BUCKET = "stores"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


# --- stores that differ


@pytest.fixture
def proxy(ceph: Ceph) -> Iterator[FaultProxy]:
    """A store that can be made to differ."""
    make_bucket(ceph, BUCKET)
    with FaultProxy(ceph.http_url) as proxy:
        yield proxy


class StoreAMinuteLater(S3Store):
    """A client who comes a minute, and the two seconds by which a store's clock may be misread, after the others."""

    def now(self) -> datetime:
        """The time by then."""
        return super().now() + timedelta(seconds=62)


def over(proxy: FaultProxy, ceph: Ceph, kind: type[S3Store] = S3Store, **options: Any) -> S3Store:
    """That store's client."""
    return kind(replace(ceph.options(BUCKET), endpoint_url=proxy.url, **options), pause=no_pause)


def on_put(header: str, fault: Fault) -> Rule:
    """A fault for writes that carry a header."""

    def choose(call: ProxiedRequest) -> None:
        (fault if header in call.headers else pass_through)(call)

    return Rule(choose, method="PUT")


@on_ceph
def test_the_probe_learns_a_stores_manners(proxy: FaultProxy, ceph: Ceph) -> None:
    """This one takes ETags without their quotes, and copies whatever the condition."""
    store = over(proxy, ceph)
    store.probe()
    assert store.capabilities == Capabilities(quotes_etags=False, etag_is_md5=True, keeps_copy_condition=False)


@on_ceph
def test_the_probe_leaves_nothing(proxy: FaultProxy, ceph: Ceph) -> None:
    """Whether it ended well or not."""
    store = over(proxy, ceph)
    store.probe()
    proxy.rules.append(on_put("if-match", refuse(501, "NotImplemented")))
    with pytest.raises(StoreRefused):
        store.probe()
    assert list(store.list("probe/")) == []


@on_ceph
def test_a_probe_is_valid_for_as_long_as_asked(proxy: FaultProxy, ceph: Ceph) -> None:
    """Within that time a store uses the note; without a validity it probes for itself."""
    first = over(proxy, ceph)
    first.probe(valid_s=60)
    proxy.rules.append(Rule(refuse(501, "NotImplemented"), method="PUT"))
    second = over(proxy, ceph)
    second.probe(valid_s=60)
    assert second.capabilities == first.capabilities != Capabilities()
    with pytest.raises(StoreRefused):
        over(proxy, ceph).probe()
    with pytest.raises(StoreRefused):
        over(proxy, ceph, StoreAMinuteLater).probe(valid_s=60)
    second.delete(NOTE)


@on_ceph
def test_a_note_of_another_version_is_ignored(proxy: FaultProxy, ceph: Ceph) -> None:
    """The store is probed, and the note replaced."""
    store = over(proxy, ceph)
    store.put(NOTE, b'{"is_polite": true}')
    store.probe(valid_s=60)
    assert Capabilities.of_note(store.get(NOTE).body) == store.capabilities
    store.delete(NOTE)


@on_ceph
@pytest.mark.parametrize(
    ("header", "fault", "reason"),
    [
        ("if-none-match", refuse(501, "NotImplemented"), "501 NotImplemented"),
        ("if-match", refuse(501, "NotImplemented"), "501 NotImplemented"),
        ("if-none-match", pretend_success, "in spite of If-None-Match"),
        ("if-match", pretend_success, "in spite of a stale If-Match"),
        ("if-match", refuse(412, "PreconditionFailed"), "no If-Match, quoted or unquoted"),
        ("authorization", refuse(403, "AccessDenied"), "403 AccessDenied"),
        ("authorization", refuse(404, "NoSuchBucket"), "404 NoSuchBucket"),
    ],
)
def test_a_store_that_holds_no_conditions_is_refused(
    proxy: FaultProxy, ceph: Ceph, header: str, fault: Fault, reason: str
) -> None:
    """With the bucket's name and the reason: refusing conditions, ignoring them, or keeping us out."""
    proxy.rules.append(on_put(header, fault))
    with pytest.raises(StoreRefused, match=f"bucket {BUCKET}.*{reason}"):
        over(proxy, ceph).probe()


@on_ceph
def test_a_probe_that_meets_a_fault_is_made_again(proxy: FaultProxy, ceph: Ceph) -> None:
    """From the beginning, under another key: what half happened must not count."""
    proxy.rules.append(Rule(refuse(503, "SlowDown"), method="PUT", times=2))
    store = over(proxy, ceph)
    store.probe()
    assert store.capabilities.etag_is_md5


@on_ceph
@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (409, "Conflict"), (412, "PreconditionFailed")])
def test_a_lost_race_is_a_failed_precondition(proxy: FaultProxy, ceph: Ceph, status: int, code: str) -> None:
    """By any of the statuses that stores give for it; 404 is what AWS says of a change to what is gone."""
    proxy.rules.append(Rule(refuse(status, code), method="PUT"))
    with pytest.raises(PreconditionFailed):
        over(proxy, ceph).put("a", b"", if_match="0" * 32)


@on_ceph
def test_the_secret_of_another_is_refused(ceph: Ceph, proxy: FaultProxy) -> None:
    """At the start."""
    with pytest.raises(StoreRefused, match="403 SignatureDoesNotMatch"):
        over(proxy, ceph, secret_key="guessed").probe()


@on_ceph
def test_a_write_asks_for_no_permission_to_send(ceph: Ceph, proxy: FaultProxy) -> None:
    """No `Expect` header, which costs a round trip; no checksum trailer, which older stores keep as content."""
    seen: list[dict[str, str]] = []

    def note(call: ProxiedRequest) -> None:
        seen.append(dict(call.headers))
        pass_through(call)

    proxy.rules.append(Rule(note, method="PUT"))
    over(proxy, ceph).put("a", b"hello")
    names = {name.lower() for name in seen[0]}
    assert names & {"expect", "x-amz-trailer", "x-amz-sdk-checksum-algorithm", "content-encoding"} == set()


def test_refused_connection_is_unavailable() -> None:
    """A connection that is refused says nothing about the store."""
    options = S3Options(bucket="b", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="s", region="r")
    with pytest.raises(StoreUnavailable):
        S3Store(options, pause=no_pause).get("a")


def test_a_store_without_forms_says_so() -> None:
    """Rather than handing out one that it will not take."""
    options = S3Options(bucket="b", access_key="a", secret_key="s", region="r", signs_forms=False)
    with pytest.raises(StoreRefused, match="forms"):
        S3Store(options).sign_post("a", max_bytes=1, expires_s=60)


# --- the clock


@on_ceph
def test_stores_clock_is_read_before_it_is_used(ceph: Ceph, proxy: FaultProxy) -> None:
    """The first thing that a gateway needs may be the time."""
    proxy.rules.append(Rule(shift_clock(timedelta(days=1))))
    earliest = datetime.now(UTC) + timedelta(days=1)
    read = over(proxy, ceph).now()
    latest = datetime.now(UTC) + timedelta(days=1)
    assert earliest - timedelta(seconds=2) < read < latest + timedelta(seconds=2)


def test_one_answer_sets_the_clock_to_a_second() -> None:
    """And the machine's monotonic time carries it on."""
    at = [100.0]
    clock = StoreClock(lambda: at[0])
    clock.learn(NOON, asked_at=99.9, answered_at=100.0)
    at[0] = 160.5
    assert clock.now() == NOON + timedelta(seconds=60.5)


@given(
    offset=st.floats(-1e6, 1e6),
    questions=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 0.2), st.floats(0, 0.2)), min_size=1, max_size=50),
)
def test_many_answers_close_in_on_the_stores_time(offset: float, questions: list[tuple[float, float, float]]) -> None:
    """Never ahead of it, never back, and behind it by a second and the shortest way home at most."""
    at = [0.0]
    clock, shortest_s = StoreClock(lambda: at[0]), 1.0
    shown = datetime.min.replace(tzinfo=UTC)
    for pause_s, there_s, back_s in questions:
        at[0] += pause_s
        asked_at = at[0]
        at[0] += there_s
        date = (NOON + timedelta(seconds=offset + at[0])).replace(microsecond=0)
        at[0] += back_s
        clock.learn(date, asked_at=asked_at, answered_at=at[0])
        shortest_s = min(shortest_s, back_s)
        behind = NOON + timedelta(seconds=offset + at[0]) - clock.now()
        assert -MILLISECOND <= behind <= timedelta(seconds=1 + shortest_s) + MILLISECOND
        assert clock.now() >= shown
        shown = clock.now()


@pytest.mark.parametrize("moved", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_store_whose_clock_was_moved_is_followed(moved: timedelta) -> None:
    """From its next answer on."""
    clock = StoreClock(lambda: 100.0)
    clock.learn(NOON, asked_at=100.0, answered_at=100.0)
    clock.learn(NOON + moved, asked_at=100.0, answered_at=100.0)
    assert clock.now() == NOON + moved
