"""Reading, listing, canceling, retrying and deleting jobs."""

import pytest

from shared.domain.job import Job
from shared.errors import LeaseLost
from shared.repositories.job_reader import MAX_SCANNED
from shared.storage.versioned_records import Versioned
from tests.support.fakes import submitted
from tests.support.gateway_harness import LOCAL, GatewayHarness, another_callers_job, build_gateway

UNKNOWN = "job_01m87pc66kkf8q56k0eagz459p"


@pytest.fixture
def gateway() -> GatewayHarness:
    """A fresh service."""
    return build_gateway()


# --- reading


def test_an_unfinished_job_reads_as_200_with_when_to_come_back(gateway: GatewayHarness) -> None:
    """Never 202; ETag and Retry-After."""
    job_id = gateway.submit()["id"]
    answer = gateway.client.get(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("30", "private, no-cache")


def test_a_succeeded_job_carries_its_artifacts_with_urls_on_the_service_itself(gateway: GatewayHarness) -> None:
    """Stable URLs, hashes and sizes, but no key of the store."""
    job_id = gateway.submit()["id"]
    gateway.succeed(job_id)
    answer = gateway.client.get(f"/v1/jobs/{job_id}")
    body = answer.json()
    model = body["artifacts"]["model"]
    assert sorted(body["artifacts"]) == ["model", "poster", "state"]
    assert model["url"] == body["result"] == f"{LOCAL}/v1/jobs/{job_id}/artifacts/model"
    assert (model["sha256"], model["bytes"], model["content_type"]) == ("ab" * 32, 10, "model/gltf-binary")
    assert (body["progress"], body["timings"], body["eta_seconds"]) == (1.0, {"shape": 1.5}, None)
    assert "retry-after" not in answer.headers
    assert "model.glb" not in answer.text


def test_a_failed_job_tells_why(gateway: GatewayHarness) -> None:
    """Code, sentence, and whether a retry may help."""
    job_id = gateway.submit()["id"]
    gateway.fail(job_id)
    error = gateway.client.get(f"/v1/jobs/{job_id}").json()["error"]
    assert (error["code"], error["detail"], error["retryable"]) == ("no_object_found", "nothing stands out", False)


def test_an_unchanged_job_is_304_and_a_changed_one_is_not(gateway: GatewayHarness) -> None:
    """If-None-Match, in every form it may take; the ETag changes with the body."""
    job_id = gateway.submit()["id"]
    etag = gateway.client.get(f"/v1/jobs/{job_id}").headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    gateway.succeed(job_id)
    changed = gateway.client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    assert changed.headers["etag"] != etag


def test_a_place_in_the_queue_is_part_of_the_etag(gateway: GatewayHarness) -> None:
    """When the job ahead ends, the next one's body changes within two seconds."""
    first, second = gateway.submit()["id"], gateway.submit()["id"]
    gateway.time.now_s += 2
    before = gateway.client.get(f"/v1/jobs/{second}")
    gateway.succeed(first)
    gateway.time.now_s += 2
    after = gateway.client.get(f"/v1/jobs/{second}", headers={"If-None-Match": before.headers["etag"]})
    assert (before.json()["queue_position"], after.json()["queue_position"]) == (1, 0)


def test_waiting_answers_as_soon_as_the_job_ends(gateway: GatewayHarness) -> None:
    """?wait= and Prefer: wait=; the job ends during the third look."""
    for options in ({"params": {"wait": "30"}}, {"headers": {"Prefer": "respond-async, wait=30"}}):
        job_id = gateway.submit()["id"]
        gateway.time.then = [lambda: None, lambda: None, lambda job_id=job_id: gateway.succeed(job_id)]
        began_s = gateway.time.now_s
        answer = gateway.client.get(f"/v1/jobs/{job_id}", **options)
        assert answer.json()["status"] == "succeeded"
        assert gateway.time.now_s - began_s < 2
        assert answer.headers.get("preference-applied") == ("wait=30" if "headers" in options else None)


def test_waiting_ends_when_the_time_is_up(gateway: GatewayHarness) -> None:
    """An unfinished job, 200, after exactly so long."""
    job_id = gateway.submit()["id"]
    answer = gateway.client.get(f"/v1/jobs/{job_id}?wait=10")
    assert (answer.status_code, answer.json()["status"], gateway.time.now_s) == (200, "queued", 10)


def test_wait_is_a_minute_at_most(gateway: GatewayHarness) -> None:
    """A preference is cut, a parameter refused."""
    job_id = gateway.submit()["id"]
    answer = gateway.client.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=86400"})
    assert (answer.headers["preference-applied"], gateway.time.now_s) == ("wait=60", 60)
    refused = gateway.client.get(f"/v1/jobs/{job_id}?wait=61")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/wait")


def test_the_estimate_learns_from_jobs_that_ended(gateway: GatewayHarness) -> None:
    """A job that took 8 s makes the next guess 8 s."""
    first = gateway.submit()["id"]
    held = gateway.jobs.claim(first, "worker")
    assert held
    gateway.clock.advance(8)
    gateway.jobs.succeed(held, artifacts={}, timings={})
    gateway.client.get(f"/v1/jobs/{first}")
    gateway.time.now_s += 2  # the queue is counted again
    assert gateway.submit()["eta_seconds"] == 8


def test_progress_shortens_the_estimate(gateway: GatewayHarness) -> None:
    """At 40 % of 30 s there are 18 left."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    gateway.jobs.renew(held, stage=None, progress=0.4)
    answer = gateway.client.get(f"/v1/jobs/{job_id}")
    assert (answer.json()["eta_seconds"], answer.headers["retry-after"]) == (18, "18")
    assert (answer.json()["status"], answer.json()["queue_position"]) == ("running", None)


# --- not yours, not there


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("POST", "/exports"),
        ("GET", "/artifacts/model"), ("GET", "?wait=5"),
    ],
)  # fmt: skip
def test_fault_23_unknown_and_anothers_and_deleted_jobs_give_the_same_404(
    gateway: GatewayHarness, method: str, path: str
) -> None:
    """Byte for byte, on every route; and nothing happens to the other's job."""
    deleted = gateway.submit()["id"]
    gateway.client.delete(f"/v1/jobs/{deleted}")
    others = another_callers_job(gateway)
    before = gateway.job(others)
    answers = [
        gateway.client.many((method, f"/v1/jobs/{job_id}{path}", {}))[0]
        for job_id in (others, UNKNOWN, deleted, "nope", "..%2f..%2fkeys")
    ]
    assert {(answer.status_code, answer.content) for answer in answers[:4]} == {(404, answers[0].content)}
    assert answers[0].json()["code"] == "job_not_found"
    assert answers[4].status_code == 404
    assert gateway.job(others) == before


# --- listing


def test_a_list_is_newest_first_in_pages(gateway: GatewayHarness) -> None:
    """Three pages of two, no job twice, none left out; the other caller's is not among them."""
    made = []
    for _ in range(5):
        made.append(gateway.submit()["id"])
    another_callers_job(gateway)
    listed, after = [], ""
    for _ in range(3):
        page = gateway.client.get("/v1/jobs", params={"limit": 2, "after": after}).json()
        listed.append([job["id"] for job in page["data"]])
        after = page["next_cursor"] or ""
    newest_first = made[::-1]
    assert listed == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    assert after == ""


def test_a_list_can_be_narrowed(gateway: GatewayHarness) -> None:
    """By status and by batch."""
    done, queued = gateway.submit()["id"], gateway.submit()["id"]
    gateway.succeed(done)
    of_batch = submitted(gateway.jobs, caller="local", batch_id="batch_1").id
    listed = [
        [job["id"] for job in gateway.client.get("/v1/jobs", params=query).json()["data"]]
        for query in ({"status": "succeeded"}, {"batch": "batch_1"}, {"status": "failed"})
    ]
    assert listed == [[done], [of_batch], []]
    assert queued not in listed[0]


def test_a_narrowed_list_leaves_none_out_between_those_that_are_not_wanted(gateway: GatewayHarness) -> None:
    """Every third of ten jobs, in pages of one."""
    made = [gateway.submit()["id"] for _ in range(10)]
    for job_id in made[::3]:
        gateway.fail(job_id)
    listed, after = [], ""
    for _ in range(5):
        page = gateway.client.get("/v1/jobs", params={"status": "failed", "limit": 1, "after": after}).json()
        listed += [job["id"] for job in page["data"]]
        after = page["next_cursor"] or ""
        if not after:
            break
    assert listed == made[::3][::-1]


def test_a_page_looks_at_a_bounded_number_of_jobs(gateway: GatewayHarness) -> None:
    """A rare status costs a bounded read, and the cursor goes on from there."""
    rare = gateway.submit()["id"]
    gateway.fail(rare)
    for _ in range(MAX_SCANNED):
        gateway.clock.advance(1)
        submitted(gateway.jobs, caller="local")
    first = gateway.client.get("/v1/jobs", params={"status": "failed"}).json()
    assert first["data"] == []
    second = gateway.client.get("/v1/jobs", params={"status": "failed", "after": first["next_cursor"]}).json()
    assert ([job["id"] for job in second["data"]], second["next_cursor"]) == ([rare], None)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "/limit"), ("limit=101", "/limit"), ("status=done", "/status"), ("after=../keys/", "/after")],
)
def test_a_list_refuses_what_it_cannot_do(gateway: GatewayHarness, query: str, pointer: str) -> None:
    """As a problem that names the parameter."""
    answer = gateway.client.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "parameter_invalid")
    assert answer.json()["errors"][0]["pointer"] == pointer


# --- canceling


def test_fault_23_a_queued_job_is_canceled_at_once_and_twice_is_no_error(gateway: GatewayHarness) -> None:
    """200 both times, with the job."""
    job_id = gateway.submit()["id"]
    first = gateway.client.post(f"/v1/jobs/{job_id}/cancel")
    second = gateway.client.post(f"/v1/jobs/{job_id}/cancel")
    assert [(answer.status_code, answer.json()["status"]) for answer in (first, second)] == [(200, "canceled")] * 2
    assert first.json() == second.json()


def test_fault_23_a_running_job_is_canceled_at_once_and_its_worker_refused(gateway: GatewayHarness) -> None:
    """The worker learns it from its next write."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    assert gateway.client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "canceled"
    assert lost(gateway, held)


def lost(gateway: GatewayHarness, held: Versioned[Job]) -> bool:
    """Also if a worker tries to finish it later."""
    with pytest.raises(LeaseLost):
        gateway.jobs.succeed(held, artifacts={}, timings={})
    return True


def test_fault_23_a_cancel_that_comes_after_the_end_changes_nothing(gateway: GatewayHarness) -> None:
    """200 with the job as it ended."""
    job_id = gateway.submit()["id"]
    ended = gateway.succeed(job_id)
    answer = gateway.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert gateway.job(job_id) == ended


# --- retrying


def test_a_failed_job_runs_again_under_its_id(gateway: GatewayHarness) -> None:
    """202, queued and enqueued, without the error."""
    job_id = gateway.submit()["id"]
    gateway.fail(job_id)
    answer = gateway.client.post(f"/v1/jobs/{job_id}/retry")
    body = answer.json()
    assert (answer.status_code, body["id"], body["status"], body["error"]) == (202, job_id, "queued", None)
    assert answer.headers["location"] == f"{LOCAL}/v1/jobs/{job_id}"
    assert gateway.queue.enqueued == [job_id, job_id]


@pytest.mark.parametrize("end", ["queued", "succeeded"])
def test_a_job_that_is_unfinished_or_succeeded_is_not_retried(gateway: GatewayHarness, end: str) -> None:
    """409."""
    job_id = gateway.submit()["id"]
    if end == "succeeded":
        gateway.succeed(job_id)
    answer = gateway.client.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "transition_refused")


# --- deleting


def test_deleting_leaves_neither_picture_nor_results_nor_words(gateway: GatewayHarness) -> None:
    """204; the record remains as a tombstone that no route shows."""
    job_id = gateway.submit(custom_id="secret-sku", metadata='{"a": "b"}')["id"]
    gateway.store.put(f"jobs/{job_id}/1/model.glb", b"glb")
    gateway.succeed(job_id)
    answer = gateway.client.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert gateway.stored() == [f"jobs/{job_id}/job.json"]
    assert b"secret-sku" not in gateway.store.get(f"jobs/{job_id}/job.json").body
    assert gateway.client.get("/v1/jobs").json()["data"] == []


def test_deleting_a_running_job_cancels_it(gateway: GatewayHarness) -> None:
    """Its worker's next write is refused."""
    job_id = gateway.submit()["id"]
    held = gateway.jobs.claim(job_id, "worker")
    assert held
    assert gateway.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert lost(gateway, held)
