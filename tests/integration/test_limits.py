"""Limits slow a caller, say until when, and affect no other caller."""

from typing import Any

import httpx
import pytest

from api.limits.api_keys import Scope, create_key
from api.limits.quotas import CallerLimits
from api.queue.job_counts import JobCounts
from shared.domain.job import Job, Lane
from shared.errors import StoreUnavailable
from shared.repositories.caller_usage import UsageRepository
from tests.support.fakes import submitted
from tests.support.gateway_harness import IMAGE, GatewayHarness, build_gateway

IMAGE_FORM = {"files": {"image": ("a.png", IMAGE)}}


@pytest.fixture
def gateway() -> GatewayHarness:
    """A gateway with a remote client."""
    return build_gateway(address="192.0.2.7")


def headers(gateway: GatewayHarness, caller: str, **limits: Any) -> dict[str, str]:
    """Create a key with these limits; return its headers."""
    plain = {"requests_per_s": None, "unfinished_jobs": None}
    _, token = create_key(
        gateway.store, caller=caller, name="test", scopes=frozenset(Scope), limits=CallerLimits(**{**plain, **limits})
    )
    return {"Authorization": f"Bearer {token}"}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def spent(gateway: GatewayHarness, caller: str, gpu_seconds: float, cost_usd: float) -> Job:
    """Run a job that succeeds at this cost."""
    job = submitted(gateway.jobs, caller=caller)
    held = gateway.jobs.claim(job.id, "worker")
    assert held
    return gateway.jobs.succeed(held, artifacts={}, timings={}, gpu_seconds=gpu_seconds, cost_usd=cost_usd).record


def test_requests_beyond_the_burst_are_429_until_the_bucket_has_refilled(gateway: GatewayHarness) -> None:
    """Two a second, four at once; each answer says how many are left, a refusal when to come back."""
    alice = headers(gateway, "alice", requests_per_s=2, burst=4)
    answers = [gateway.client.get("/v1/jobs", headers=alice) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert [answer.headers["ratelimit"] for answer in answers[:4]] == [
        f'"requests";r={left};t={full_in_s}' for left, full_in_s in ((3, 1), (2, 1), (1, 2), (0, 2))
    ]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=4;w=2'
    assert (code(answers[4]), answers[4].headers["retry-after"]) == ((429, "too_many_requests"), "1")
    assert answers[4].headers["ratelimit"] == '"requests";r=0;t=2'
    gateway.time.now_s += 0.5
    assert [gateway.client.get("/v1/jobs", headers=alice).status_code for _ in range(2)] == [200, 429]


def test_rate_limit_of_a_caller_affects_no_other_caller(gateway: GatewayHarness) -> None:
    """Every caller has its own bucket, which all its keys share; a key without limits has none."""
    greedy, same = (headers(gateway, "alice", requests_per_s=1, burst=1) for _ in range(2))
    patient, free = headers(gateway, "bob", requests_per_s=1, burst=1), headers(gateway, "carol")
    assert gateway.client.get("/v1/jobs", headers=greedy).status_code == 200
    assert gateway.client.get("/v1/jobs", headers=same).status_code == 429
    assert gateway.client.get("/v1/jobs", headers=patient).status_code == 200
    unlimited = gateway.client.get("/v1/jobs", headers=free)
    assert (unlimited.status_code, "ratelimit" in unlimited.headers) == (200, False)


def test_unfinished_jobs_are_bounded_and_others_are_not_counted(gateway: GatewayHarness) -> None:
    """The code differs from that of the rate limit; an ended job makes room at the next count."""
    alice, bob = headers(gateway, "alice", unfinished_jobs=2), headers(gateway, "bob", unfinished_jobs=1)
    first, second, third = (gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM) for _ in range(3))
    assert (first.status_code, second.status_code, code(third)) == (202, 202, (429, "too_many_jobs"))
    assert third.headers["retry-after"] == "5"
    assert gateway.client.post("/v1/jobs", headers=bob, **IMAGE_FORM).status_code == 202
    gateway.fail(first.json()["id"])
    gateway.time.now_s += 2
    assert gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM).status_code == 202
    assert code(gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM)) == (429, "too_many_jobs")


def test_many_submits_at_once_do_not_slip_past_the_bound(gateway: GatewayHarness) -> None:
    """What was admitted since the last count is counted too."""
    alice = headers(gateway, "alice", unfinished_jobs=3)
    answers = gateway.client.many(*[("POST", "/v1/jobs", {"headers": alice, **IMAGE_FORM})] * 12)
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 9


def test_equal_submit_is_answered_though_the_limit_is_reached(gateway: GatewayHarness) -> None:
    """The job exists; nothing new is submitted."""
    alice = headers(gateway, "alice", unfinished_jobs=1) | {"Idempotency-Key": "order-1"}
    first, again = (gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM) for _ in range(2))
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


@pytest.mark.parametrize("limit", [{"gpu_seconds_per_day": 30}, {"usd_per_day": 0.5}])
def test_day_that_is_spent_refuses_new_jobs_until_midnight(gateway: GatewayHarness, limit: dict[str, float]) -> None:
    """What succeeded since midnight UTC counts, and of each job only once."""
    alice = headers(gateway, "alice", **limit)
    spent(gateway, "bob", 1_000, 1_000)
    job = spent(gateway, "alice", 29, 0.4)
    gateway.jobs.clean(job)  # the reconciler would count it again
    assert gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM).status_code == 202
    spent(gateway, "alice", 1, 0.1)
    gateway.time.now_s += 5
    refused = gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM)
    assert (code(refused), refused.headers["retry-after"]) == ((429, "budget_spent"), "86400")
    gateway.clock.advance(86_400)
    gateway.time.now_s += 5
    assert gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM).status_code == 202


def test_usage_is_summed_by_day(gateway: GatewayHarness) -> None:
    """GPU seconds and dollars, to the millisecond and the millionth; failures are free."""
    spent(gateway, "alice", 1.5, 0.000001)
    spent(gateway, "alice", 2.25, 0.1)
    gateway.fail(submitted(gateway.jobs, caller="alice").id)
    used = UsageRepository(gateway.store).today("alice", gateway.clock())
    assert (used.jobs, used.gpu_seconds, used.cost_usd) == (2, 3.75, pytest.approx(0.100001))


def test_expiry_is_shown_and_an_export_of_an_expired_job_is_refused(gateway: GatewayHarness) -> None:
    """Also in the minutes before the job is purged."""
    alice = headers(gateway, "alice", keep_days=1)
    job_id = gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM).json()["id"]
    gateway.succeed(job_id)
    job = gateway.client.get(f"/v1/jobs/{job_id}", headers=alice).json()
    assert job["expires_at"] == job["artifacts"]["model"]["expires_at"] == "2026-01-02T00:00:00Z"
    assert gateway.client.post(f"/v1/jobs/{job_id}/exports", headers=alice).status_code == 202
    gateway.clock.advance(86_400)
    assert code(gateway.client.post(f"/v1/jobs/{job_id}/exports", headers=alice)) == (409, "state_missing")


def test_usage_is_read_by_day_newest_first_and_only_ones_own(gateway: GatewayHarness) -> None:
    """Of as many days as are asked for; another caller's jobs, and failures, are not in it."""
    alice = headers(gateway, "alice")
    spent(gateway, "bob", 7, 7)
    spent(gateway, "alice", 1.5, 0.25)
    gateway.clock.advance(86_400)
    spent(gateway, "alice", 2, 0.5)
    spent(gateway, "alice", 3, 0.5)
    days = [
        {"day": "2026-01-02", "jobs": 2, "gpu_seconds": 5.0, "cost_usd": 1.0},
        {"day": "2026-01-01", "jobs": 1, "gpu_seconds": 1.5, "cost_usd": 0.25},
    ]
    assert gateway.client.get("/v1/usage", headers=alice).json()["data"] == days
    assert gateway.client.get("/v1/usage?days=1", headers=alice).json()["data"] == days[:1]


def test_fault_24_jobs_of_one_caller_are_enqueued_in_priority_tiers(gateway: GatewayHarness) -> None:
    """Tier 0 takes the first job of a lane, tier 1 the next seven, whatever other callers have; each lane by itself."""
    tiers: list[int] = []
    gateway.queue.enqueue = lambda _ids, _lane, *, tier=0: tiers.append(tier)  # type: ignore[method-assign]
    alice, bob = headers(gateway, "alice"), headers(gateway, "bob")
    for caller, fields in [*[(alice, {})] * 9, (bob, {}), (alice, {"lane": "interactive"})]:
        assert gateway.client.post("/v1/jobs", headers=caller, data=fields, **IMAGE_FORM).status_code == 202
    assert tiers == [0, *[1] * 7, 2, 0, 0]


def test_bound_on_running_jobs_goes_with_each_job_and_refuses_none(gateway: GatewayHarness) -> None:
    """They stay queued."""
    alice = headers(gateway, "alice", running_jobs=1)
    job_list = [gateway.client.post("/v1/jobs", headers=alice, **IMAGE_FORM).json()["id"] for _ in range(2)]
    claimed = [gateway.jobs.claim(job_id, "worker") is not None for job_id in job_list]
    assert claimed == [True, False]
    assert gateway.client.get(f"/v1/jobs/{job_list[1]}", headers=alice).json()["status"] == "queued"


def test_store_that_cannot_list_delays_no_enqueue(gateway: GatewayHarness) -> None:
    """The job is durable by then; its priority tier is an estimate."""
    open_jobs = JobCounts(gateway.jobs, monotonic=gateway.time.monotonic)

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no answer")

    gateway.jobs.pending_markers = fail  # type: ignore[method-assign]
    assert [open_jobs.position_of_next("alice", Lane.STANDARD, job_id) for job_id in ("job_1", "job_2")] == [0, 1]
