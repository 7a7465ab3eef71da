"""The promises of the job repository hold under any order of its calls, of crashes, and of passes of the reconciler."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from shared.domain.job import Artifact, Job, JobError, Stage, Status, Webhook
from shared.domain.job_transitions import MAX_CRASHES
from shared.errors import LeaseLost, StoreUnavailable, TransitionRefused
from shared.repositories.job_listeners import build_job_repository
from shared.repositories.jobs import LEASE_S
from shared.storage import keys
from shared.storage.versioned_records import Versioned
from tests.support.fakes import ListQueue, LossyStore, ManualClock, keys_under, losing, new_job, no_pause
from worker.maintenance.reconciler import Reconciler

outboxes = st.sampled_from(["up", "up", "down"])


def failing_outbox(state: str) -> Callable[[str], None]:
    """A hook that raises at every entry of the outbox while that is down."""

    def hook(key: str) -> None:
        if state == "down" and key.startswith(keys.OUTBOX):
            raise StoreUnavailable("the outbox is down")

    return hook


LONG_S = 10_000_000.0  # no job of this test expires unless the rule says so


class JobsMachine(RuleBasedStateMachine):
    """Simulates gateway, queue, workers and reconciler over one store and a manual clock."""

    accepted = Bundle("accepted")
    holders = Bundle("holders")

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock()
        self.store = LossyStore(self.clock)
        self.jobs = build_job_repository(self.store, pause=no_pause)
        self.queue = ListQueue()
        self.reconciler = Reconciler(self.jobs, self.queue, requeue_after_s=0, queue_ttl_s=LONG_S)
        self.created = 0
        self.ids: set[str] = set()
        self.parsed: dict[str, Versioned[Job]] = {}
        self.ends: Counter[tuple[str, int]] = Counter()  # confirmed terminal writes, by job and run
        self.fences: dict[str, int] = {}
        self.ended: set[tuple[str, int]] = set()  # every run that was ever seen to have ended

    def next_job(self) -> Job:
        """Create a job with a deterministic id, so that a failing example can be repeated."""
        self.created += 1
        return new_job(self.clock(), id=f"job_{self.created:026d}", webhook=Webhook(url="https://hooks.example.com/"))

    def record_end(self, job_id: str, run_number: int) -> None:
        self.ends[job_id, run_number] += 1

    @rule(target=accepted, enqueues=st.integers(0, 2), lost_answers=st.integers(0, 2))
    def submit(self, enqueues: int, lost_answers: int) -> str:
        job = self.next_job()
        self.store.after_put = losing(lost_answers)
        self.jobs.reserve(job)
        self.jobs.create(job)
        self.store.after_put = losing(0)
        self.queue.enqueued.extend([job.id] * enqueues)
        self.ids.add(job.id)
        return job.id

    @rule(target=accepted)
    def submit_and_die_before_the_record(self) -> str:
        job = self.next_job()
        self.jobs.reserve(job)
        return job.id

    @rule()
    def lose_all_queue_items(self) -> None:
        self.queue.enqueued.clear()

    @rule(target=holders, lost_answers=st.integers(0, 2))
    def dequeue_and_claim(self, lost_answers: int) -> Any:
        job_id = self.queue.dequeue()
        return multiple() if job_id is None else self.claimed(job_id, lost_answers)

    @rule(target=holders, job_id=accepted, lost_answers=st.integers(0, 2))
    def claim_without_a_queue_item(self, job_id: str, lost_answers: int) -> Any:
        """As a worker does that polls the records, or whose queue item was doubled."""
        return self.claimed(job_id, lost_answers)

    def claimed(self, job_id: str, lost_answers: int) -> Any:
        before = self.jobs.find(job_id)
        self.store.after_put = losing(lost_answers)
        held = self.jobs.claim(job_id, "worker")
        self.store.after_put = losing(0)
        if held is None:
            return multiple()
        assert before is not None
        assert before.record.status is Status.QUEUED or before.age_s > LEASE_S, "a live lease was taken"
        assert held.record.attempt > self.fences.get(job_id, 0), "an attempt number was used twice"
        self.fences[job_id] = held.record.attempt
        return held

    def is_current(self, held: Versioned[Job]) -> bool:
        present = self.jobs.read(held.record.id).record
        return present.status is Status.RUNNING and present.attempt == held.record.attempt

    @rule(target=holders, held=consumes(holders))
    def renew(self, held: Versioned[Job]) -> Any:
        is_current = self.is_current(held)
        try:
            renewed = self.jobs.renew(held, stage=Stage.SHAPE, progress=0.5)
        except LeaseLost:
            assert not is_current
            return multiple()
        assert is_current
        return renewed

    @rule(held=consumes(holders), lost_answers=st.integers(0, 2), succeeds=st.booleans(), outbox=outboxes)
    def finish(self, held: Versioned[Job], lost_answers: int, succeeds: bool, outbox: str) -> None:
        """The holder may have lost its lease long ago."""
        is_current = self.is_current(held)
        self.store.before_put = failing_outbox(outbox)
        self.store.after_put = losing(lost_answers)
        key = keys.artifact(held.record.id, held.record.attempt, "model.glb")
        self.store.put(key, b"glb")
        artifact = Artifact(key=key, bytes=3, sha256="-", content_type="model/gltf-binary")
        try:
            if succeeds:
                self.jobs.succeed(held, artifacts={"model": artifact}, timings={}, cost_usd=1.0)
            else:
                self.jobs.fail(held, JobError(code="no_object_found", detail="-", retryable=False))
        except LeaseLost:
            assert not is_current
            self.delete_own_files(held)
        else:
            assert is_current
            self.record_end(held.record.id, held.record.run_number)
        finally:
            self.store.after_put = losing(0)
            self.store.before_put = failing_outbox("up")

    def delete_own_files(self, held: Versioned[Job]) -> None:
        """As the worker does when its result is refused."""
        present = self.jobs.read(held.record.id).record
        if present.status.is_terminal:
            with suppress(StoreUnavailable):
                self.jobs.clean(present)

    @rule(held=consumes(holders))
    def release(self, held: Versioned[Job]) -> None:
        try:
            self.jobs.release(held)
        except LeaseLost:
            return

    @rule(target=holders, held=consumes(holders))
    def fail_and_go_on(self, held: Versioned[Job]) -> Any:
        try:
            following = self.jobs.next_attempt(held)
        except (LeaseLost, TransitionRefused):
            return multiple()
        self.fences[held.record.id] = following.record.attempt
        return following

    @rule(held=consumes(holders))
    def crash(self, held: Versioned[Job]) -> None:
        """The worker dies during an upload.

        Not after its canceled job was cleaned: what it leaves then is deleted only with the job.
        """
        job = self.jobs.read(held.record.id).record
        if job.status.is_terminal and keys.pending_marker(job.lane, job.id, job.run_number, job.caller) not in set(
            keys_under(self.store, keys.PENDING)
        ):
            return
        self.store.put(keys.artifact(held.record.id, held.record.attempt, "state.glb"), b"half")

    @rule(job_id=accepted, outbox=outboxes)
    def cancel(self, job_id: str, outbox: str) -> None:
        before = self.jobs.find(job_id)
        if before is None:
            return
        self.store.before_put = failing_outbox(outbox)
        after = self.jobs.cancel(job_id).record
        self.store.before_put = failing_outbox("up")
        if before.record.status.is_terminal:
            assert after.status is before.record.status
        else:
            assert after.status is Status.CANCELED
            self.record_end(job_id, after.run_number)

    @rule(job_id=accepted, outbox=outboxes)
    def retry(self, job_id: str, outbox: str) -> None:
        if self.jobs.find(job_id) is not None:
            self.store.before_put = failing_outbox(outbox)
            try:
                self.jobs.retry(job_id)
            except (TransitionRefused, StoreUnavailable):
                return
            finally:
                self.store.before_put = failing_outbox("up")

    @rule(seconds=st.sampled_from([1.0, 29.0, 31.0, 4_000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(lost_answers=st.integers(0, 3), outbox=outboxes)
    def reconcile(self, lost_answers: int, outbox: str) -> None:
        self.store.after_put = losing(lost_answers)
        self.store.before_put = failing_outbox(outbox)
        try:
            self.reconciler.reconcile()
        except StoreUnavailable:
            return
        finally:
            self.store.after_put = losing(0)
            self.store.before_put = failing_outbox("up")

    def records(self) -> list[Job]:
        """Every accepted job as it is stored, by id; each version is parsed once, since all invariants read them."""
        for job_id in self.ids:
            etag = self.store.get(keys.job_record(job_id)).etag
            if job_id not in self.parsed or self.parsed[job_id].etag != etag:
                self.parsed[job_id] = self.jobs.read(job_id)
        return [self.parsed[job_id].record for job_id in sorted(self.ids)]

    @invariant()
    def every_end_is_in_the_outbox_or_still_marked(self) -> None:
        """No delivery runs here, so announced ends stay. A run before a retry must be announced."""
        announced = self.announced()
        marked = set(keys_under(self.store, keys.PENDING))
        job_list = self.records()
        self.ended |= {(job.id, job.run_number) for job in job_list if job.status.is_terminal}
        current = {(job.id, job.run_number): job for job in job_list}
        for end in self.ended - announced:
            assert end in current, "an earlier run is not announced"
            job = current[end]
            assert keys.pending_marker(job.lane, job.id, job.run_number, job.caller) in marked

    def announced(self) -> set[tuple[str, int]]:
        events = [key.partition("-")[2].partition(".")[0].split("_") for key in keys_under(self.store, keys.OUTBOX)]
        assert len(events) == len({(job, run_number) for _, job, run_number in events}), (
            "an end was announced as two events"
        )
        return {(f"job_{job}", int(run_number)) for _, job, run_number in events}

    @invariant()
    def every_accepted_job_is_stored(self) -> None:
        assert {job.id for job in self.records()} == self.ids

    @invariant()
    def no_run_ends_twice(self) -> None:
        assert [end for end, times in self.ends.items() if times > 1] == []

    @invariant()
    def unfinished_jobs_are_marked(self) -> None:
        marked = set(keys_under(self.store, keys.PENDING))
        for job in self.records():
            if not job.status.is_terminal:
                assert keys.pending_marker(job.lane, job.id, job.run_number, job.caller) in marked

    @invariant()
    def every_change_is_logged_in_order(self) -> None:
        for job in self.records():
            assert [event.version for event in job.log] == list(range(1, job.version + 1))
            assert job.log[-1].type in (("started", "progress") if job.status is Status.RUNNING else (job.status,))

    @invariant()
    def cost_is_counted_only_for_success(self) -> None:
        for job in self.records():
            assert job.cost_usd == (1.0 if job.status is Status.SUCCEEDED else 0.0)
            assert job.crashes <= MAX_CRASHES

    def teardown(self) -> None:
        """With a healthy worker and a reconciler every job ends, and no file is left over."""
        if not hasattr(self, "ids"):
            return
        for _ in range(3):
            self.clock.advance(4_000)
            self.reconciler.reconcile()
            while (job_id := self.queue.dequeue()) is not None:
                if held := self.jobs.claim(job_id, "healthy"):
                    self.jobs.succeed(held, artifacts={}, timings={}, cost_usd=1.0)
        self.clock.advance(4_000)
        self.reconciler.reconcile()
        ends = {job_id: self.jobs.read(job_id).record for job_id in self.ids}
        assert [job_id for job_id, job in ends.items() if not job.status.is_terminal] == []
        assert list(keys_under(self.store, keys.PENDING)) == []
        assert self.ended | {(job.id, job.run_number) for job in ends.values()} == self.announced()
        kept = {artifact.key for job in ends.values() for artifact in job.artifacts.values()}
        assert {key for key in keys_under(self.store, "jobs/") if key.endswith(".glb")} == kept


JobsMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestJobPromises = JobsMachine.TestCase
