"""Images in the store: validated by their first bytes, copied only as they were validated."""

import pytest

from api.submission.image_sources import COPY_TRIES, UploadedImage
from bench.support.memory_store import MemoryStore
from shared.errors import ImageRejected, StoreUnavailable, UploadNotFound
from shared.storage import keys
from shared.storage.ports import Fetched
from tests.support.fakes import ManualClock
from tests.support.gateway_harness import IMAGE, encode_image

UPLOAD = "up_01m87pc66kkf8q56k0eagz459p"
JOB = "job_01m87pc66kkf8q56k0eagz459p"
PLACE = keys.upload("alice", UPLOAD)


class MeasuringStore(MemoryStore):
    """Counts the bytes that leave it."""

    read_bytes = 0

    def get(self, key: str, *, first_byte: int = 0, length: int | None = None) -> Fetched:
        """Get, and count."""
        fetched = super().get(key, first_byte=first_byte, length=length)
        self.read_bytes += len(fetched.body)
        return fetched


def test_a_large_upload_is_judged_by_its_head() -> None:
    """64 KB of 10 MB."""
    store = MeasuringStore(ManualClock())
    store.put(PLACE, IMAGE + bytes(10_000_000))
    UploadedImage(UPLOAD).validate(store, "alice")
    assert store.read_bytes <= 65_536


def test_an_upload_that_was_changed_is_judged_anew() -> None:
    """The copy is what the second judgement saw."""
    store = MemoryStore(ManualClock())
    store.put(PLACE, IMAGE)
    put = UploadedImage(UPLOAD).validate(store, "alice")
    second = encode_image(format_="JPEG")
    store.put(PLACE, second)
    stored = put(JOB)
    assert (stored.key, stored.bytes) == (keys.job_input(JOB, "jpg"), len(second))
    assert store.get(keys.job_input(JOB, "jpg")).body == second


def test_an_upload_that_was_changed_for_the_worse_is_refused() -> None:
    """Validated, then overwritten with bytes that are not an image."""
    store = MemoryStore(ManualClock())
    store.put(PLACE, IMAGE)
    put = UploadedImage(UPLOAD).validate(store, "alice")
    store.put(PLACE, b"no image")
    with pytest.raises(ImageRejected):
        put(JOB)
    assert [entry.key for entry in store.list("jobs/")] == []


def test_an_upload_that_vanished_is_not_found() -> None:
    """Between judgement and copy."""
    store = MemoryStore(ManualClock())
    store.put(PLACE, IMAGE)
    put = UploadedImage(UPLOAD).validate(store, "alice")
    store.delete(PLACE)
    with pytest.raises(UploadNotFound):
        put(JOB)


def test_an_upload_that_changes_all_the_time_is_given_up() -> None:
    """After a few copies that came too late."""

    class Restless(MemoryStore):
        copies = 0

        def copy(self, source: str, target: str, *, if_match: str) -> str:
            self.copies += 1
            self.put(source, encode_image(8 + self.copies))
            return super().copy(source, target, if_match=if_match)

    store = Restless(ManualClock())
    store.put(PLACE, IMAGE)
    with pytest.raises(StoreUnavailable):
        UploadedImage(UPLOAD).validate(store, "alice")(JOB)
    assert store.copies == COPY_TRIES
