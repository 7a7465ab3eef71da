"""A greedy caller is slowed, is told how and until when, and hurts nobody else."""

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
from tests.support.gateway_harness import PICTURE, House, a_house

PICTURES = {"files": {"image": ("a.png", PICTURE)}}


@pytest.fixture
def house() -> House:
    """A gateway that is reached from afar."""
    return a_house(address="192.0.2.7")


def headers(house: House, caller: str, **limits: Any) -> dict[str, str]:
    """What a caller with a key of these limits sends."""
    plain = {"requests_per_s": None, "unfinished_jobs": None}
    _, token = create_key(
        house.store, caller=caller, name="test", scopes=frozenset(Scope), limits=CallerLimits(**{**plain, **limits})
    )
    return {"Authorization": f"Bearer {token}"}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def spent(house: House, caller: str, gpu_seconds: float, cost_usd: float) -> Job:
    """A job that succeeded at this cost."""
    job = submitted(house.jobs, caller=caller)
    held = house.jobs.claim(job.id, "worker")
    assert held
    return house.jobs.succeed(held, artifacts={}, timings={}, gpu_seconds=gpu_seconds, cost_usd=cost_usd).record


def test_requests_beyond_the_burst_are_429_until_the_bucket_has_refilled(house: House) -> None:
    """Two a second, four at once; each answer says how many are left, a refusal when to come back."""
    alice = headers(house, "alice", requests_per_s=2, burst=4)
    answers = [house.client.get("/v1/jobs", headers=alice) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    assert [answer.headers["ratelimit"] for answer in answers[:4]] == [
        f'"requests";r={left};t={full_in_s}' for left, full_in_s in ((3, 1), (2, 1), (1, 2), (0, 2))
    ]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=4;w=2'
    assert (code(answers[4]), answers[4].headers["retry-after"]) == ((429, "too_many_requests"), "1")
    assert answers[4].headers["ratelimit"] == '"requests";r=0;t=2'
    house.time.now_s += 0.5
    assert [house.client.get("/v1/jobs", headers=alice).status_code for _ in range(2)] == [200, 429]


def test_one_callers_haste_costs_another_nothing(house: House) -> None:
    """Every caller has a bucket of its own, all its keys share it; a key without limits has none."""
    greedy, same = (headers(house, "alice", requests_per_s=1, burst=1) for _ in range(2))
    patient, free = headers(house, "bob", requests_per_s=1, burst=1), headers(house, "carol")
    assert house.client.get("/v1/jobs", headers=greedy).status_code == 200
    assert house.client.get("/v1/jobs", headers=same).status_code == 429
    assert house.client.get("/v1/jobs", headers=patient).status_code == 200
    unlimited = house.client.get("/v1/jobs", headers=free)
    assert (unlimited.status_code, "ratelimit" in unlimited.headers) == (200, False)


def test_unfinished_jobs_are_bounded_and_others_are_not_counted(house: House) -> None:
    """Too many is told apart from too fast; an ended job makes room once it is counted again."""
    alice, bob = headers(house, "alice", unfinished_jobs=2), headers(house, "bob", unfinished_jobs=1)
    first, second, third = (house.client.post("/v1/jobs", headers=alice, **PICTURES) for _ in range(3))
    assert (first.status_code, second.status_code, code(third)) == (202, 202, (429, "too_many_jobs"))
    assert third.headers["retry-after"] == "5"
    assert house.client.post("/v1/jobs", headers=bob, **PICTURES).status_code == 202
    house.fail(first.json()["id"])
    house.time.now_s += 2
    assert house.client.post("/v1/jobs", headers=alice, **PICTURES).status_code == 202
    assert code(house.client.post("/v1/jobs", headers=alice, **PICTURES)) == (429, "too_many_jobs")


def test_many_submits_at_once_do_not_slip_past_the_bound(house: House) -> None:
    """What was admitted since the last count is counted too."""
    alice = headers(house, "alice", unfinished_jobs=3)
    answers = house.client.many(*[("POST", "/v1/jobs", {"headers": alice, **PICTURES})] * 12)
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 9


def test_equal_submit_is_answered_though_the_limit_is_reached(house: House) -> None:
    """Its job is there: nothing is asked for."""
    alice = headers(house, "alice", unfinished_jobs=1) | {"Idempotency-Key": "order-1"}
    first, again = (house.client.post("/v1/jobs", headers=alice, **PICTURES) for _ in range(2))
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


@pytest.mark.parametrize("limit", [{"gpu_seconds_per_day": 30}, {"usd_per_day": 0.5}])
def test_day_that_is_spent_refuses_new_jobs_until_midnight(house: House, limit: dict[str, float]) -> None:
    """What succeeded since midnight UTC counts, and of each job only once."""
    alice = headers(house, "alice", **limit)
    spent(house, "bob", 1_000, 1_000)
    job = spent(house, "alice", 29, 0.4)
    house.jobs.clean(job)  # a sweeper that counts it again
    assert house.client.post("/v1/jobs", headers=alice, **PICTURES).status_code == 202
    spent(house, "alice", 1, 0.1)
    house.time.now_s += 5
    refused = house.client.post("/v1/jobs", headers=alice, **PICTURES)
    assert (code(refused), refused.headers["retry-after"]) == ((429, "budget_spent"), "86400")
    house.clock.advance(86_400)
    house.time.now_s += 5
    assert house.client.post("/v1/jobs", headers=alice, **PICTURES).status_code == 202


def test_usage_is_summed_by_day(house: House) -> None:
    """GPU seconds and dollars, to the millisecond and the millionth; failures are free."""
    spent(house, "alice", 1.5, 0.000001)
    spent(house, "alice", 2.25, 0.1)
    house.fail(submitted(house.jobs, caller="alice").id)
    used = UsageRepository(house.store).today("alice", house.clock())
    assert (used.jobs, used.gpu_seconds, used.cost_usd) == (2, 3.75, pytest.approx(0.100001))


def test_expiry_is_told_and_an_export_of_what_has_expired_is_refused(house: House) -> None:
    """Also in the minutes before it is erased."""
    alice = headers(house, "alice", keep_days=1)
    job_id = house.client.post("/v1/jobs", headers=alice, **PICTURES).json()["id"]
    house.succeed(job_id)
    job = house.client.get(f"/v1/jobs/{job_id}", headers=alice).json()
    assert job["expires_at"] == job["artifacts"]["model"]["expires_at"] == "2026-01-02T00:00:00Z"
    assert house.client.post(f"/v1/jobs/{job_id}/exports", headers=alice).status_code == 202
    house.clock.advance(86_400)
    assert code(house.client.post(f"/v1/jobs/{job_id}/exports", headers=alice)) == (409, "state_missing")


def test_usage_is_read_by_day_newest_first_and_only_ones_own(house: House) -> None:
    """Of as many days as are asked for; another caller's jobs, and failures, are not in it."""
    alice = headers(house, "alice")
    spent(house, "bob", 7, 7)
    spent(house, "alice", 1.5, 0.25)
    house.clock.advance(86_400)
    spent(house, "alice", 2, 0.5)
    spent(house, "alice", 3, 0.5)
    days = [
        {"day": "2026-01-02", "jobs": 2, "gpu_seconds": 5.0, "cost_usd": 1.0},
        {"day": "2026-01-01", "jobs": 1, "gpu_seconds": 1.5, "cost_usd": 0.25},
    ]
    assert house.client.get("/v1/usage", headers=alice).json()["data"] == days
    assert house.client.get("/v1/usage?days=1", headers=alice).json()["data"] == days[:1]


def test_fault_24_jobs_of_one_caller_are_enqueued_in_priority_tiers(house: House) -> None:
    """Tier 0 takes the first job of a lane, tier 1 the next seven, whatever other callers have; each lane by itself."""
    tiers: list[int] = []
    house.queue.enqueue = lambda _ids, _lane, *, tier=0: tiers.append(tier)  # type: ignore[method-assign]
    alice, bob = headers(house, "alice"), headers(house, "bob")
    for caller, fields in [*[(alice, {})] * 9, (bob, {}), (alice, {"lane": "interactive"})]:
        assert house.client.post("/v1/jobs", headers=caller, data=fields, **PICTURES).status_code == 202
    assert tiers == [0, *[1] * 7, 2, 0, 0]


def test_bound_on_running_jobs_goes_with_each_job_and_refuses_none(house: House) -> None:
    """They stay queued."""
    alice = headers(house, "alice", running_jobs=1)
    job_list = [house.client.post("/v1/jobs", headers=alice, **PICTURES).json()["id"] for _ in range(2)]
    claimed = [house.jobs.claim(job_id, "worker") is not None for job_id in job_list]
    assert claimed == [True, False]
    assert house.client.get(f"/v1/jobs/{job_list[1]}", headers=alice).json()["status"] == "queued"


def test_store_that_cannot_list_holds_up_no_ring(house: House) -> None:
    """The job is durable by then; in which wave it is called is a guess anyway."""
    open_jobs = JobCounts(house.jobs, monotonic=house.time.monotonic)

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no answer")

    house.jobs.pending_markers = fail  # type: ignore[method-assign]
    assert [open_jobs.position_of_next("alice", Lane.STANDARD, job_id) for job_id in ("job_1", "job_2")] == [0, 1]
