"""What every object store promises, whichever it is."""

import hashlib
import io
import json
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from typing import BinaryIO

import pytest

from bench.support.memory_store import MemoryStore
from shared.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from shared.storage.ports import ObjectStore
from tests.contract.adapters import Adapter

TWO_SECONDS = timedelta(seconds=2)  # stores date their objects, and their answers, to the second
OTHER_ETAG = hashlib.md5(b"something else", usedforsecurity=False).hexdigest()


# --- one object


def test_what_is_put_is_what_is_got(store: ObjectStore, folder: str) -> None:
    """Body, size and ETag of a read are those of the write."""
    etag = store.put(f"{folder}a", b"hello")
    fetched = store.get(f"{folder}a")
    assert (fetched.body, fetched.size_bytes, fetched.etag) == (b"hello", 5, etag)


def test_an_empty_object_is_an_object(store: ObjectStore, folder: str) -> None:
    """Markers hold nothing and are there."""
    etag = store.put(f"{folder}a", b"")
    fetched = store.get(f"{folder}a")
    assert (fetched.body, fetched.size_bytes, fetched.etag) == (b"", 0, etag)


def test_a_key_that_does_not_exist_is_not_found(store: ObjectStore, folder: str) -> None:
    """Neither is a key under another object's key, or above it."""
    store.put(f"{folder}a/b", b"")
    for key in ("c", "a", "a/b/c", "x/y/z"):
        with pytest.raises(ObjectNotFound):
            store.get(folder + key)


@pytest.mark.parametrize(
    ("first_byte", "length", "expected"),
    [
        (0, 2, b"he"),
        (1, 3, b"ell"),
        (3, None, b"lo"),
        (3, 10, b"lo"),
        (4, 1, b"o"),
        (5, 1, b""),
        (9, None, b""),
        (2, 0, b""),
    ],
)
def test_a_range_is_part_of_an_object(
    store: ObjectStore, folder: str, first_byte: int, length: int | None, expected: bytes
) -> None:
    """Fewer bytes at the end, none after it; the size and the ETag are always the whole object's."""
    etag = store.put(f"{folder}a", b"hello")
    fetched = store.get(f"{folder}a", first_byte=first_byte, length=length)
    assert (fetched.body, fetched.size_bytes, fetched.etag) == (expected, 5, etag)


def test_a_range_of_an_empty_object_is_empty(store: ObjectStore, folder: str) -> None:
    """Though HTTP calls every range of it unsatisfiable."""
    store.put(f"{folder}a", b"")
    assert store.get(f"{folder}a", first_byte=0, length=10).body == b""


def test_another_content_has_another_etag(store: ObjectStore, folder: str) -> None:
    """So that a change is seen."""
    assert store.put(f"{folder}a", b"one") != store.put(f"{folder}a", b"two")


def test_an_unconditional_put_replaces(store: ObjectStore, folder: str) -> None:
    """Whatever was there."""
    store.put(f"{folder}a", b"one")
    store.put(f"{folder}a", b"two")
    assert store.get(f"{folder}a").body == b"two"


def test_every_client_sees_what_another_wrote(adapter: Adapter, folder: str) -> None:
    """At once."""
    adapter.open().put(f"{folder}a", b"hello")
    assert adapter.open().get(f"{folder}a").body == b"hello"


def test_a_deleted_object_is_gone(store: ObjectStore, folder: str) -> None:
    """Deleting it again, or what never was, is no error."""
    store.put(f"{folder}a/b", b"hello")
    store.delete(f"{folder}a/b")
    store.delete(f"{folder}a/b")
    store.delete(f"{folder}never")
    with pytest.raises(ObjectNotFound):
        store.get(f"{folder}a/b")
    assert list(store.list(folder)) == []


class Zeros(io.RawIOBase):
    """A large file that takes no memory."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + (0, self.position, self.size_bytes)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        left = self.size_bytes - self.position
        count = left if size < 0 else min(size, left)
        self.position += count
        return bytes(count)


def test_a_file_is_put_from_its_present_position(store: ObjectStore, folder: str) -> None:
    """What was read before is not written."""
    file = io.BytesIO(b"header body")
    file.seek(7)
    store.put(f"{folder}a", file)
    assert store.get(f"{folder}a").body == b"body"


def test_a_large_file_is_put_in_bounded_memory(adapter: Adapter, folder: str) -> None:
    """48 MB pass through less than 8."""
    store, size_bytes = adapter.store, 48_000_000
    if isinstance(store, MemoryStore):
        pytest.skip("a store in memory keeps the file there")
    file: BinaryIO = Zeros(size_bytes)  # type: ignore[assignment]
    store.put(f"{folder}warm", b"")
    tracemalloc.start()
    store.put(f"{folder}a", file)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert store.get(f"{folder}a", first_byte=size_bytes - 1).size_bytes == size_bytes
    assert peak_bytes < 8_000_000
    store.delete(f"{folder}a")


# --- conditions


def test_a_create_is_refused_where_the_key_exists(store: ObjectStore, folder: str) -> None:
    """And what is there stays."""
    store.put(f"{folder}a", b"one", if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put(f"{folder}a", b"two", if_absent=True)
    assert store.get(f"{folder}a").body == b"one"


def test_a_create_succeeds_again_after_a_delete(store: ObjectStore, folder: str) -> None:
    """Absent is absent."""
    store.put(f"{folder}a", b"one", if_absent=True)
    store.delete(f"{folder}a")
    store.put(f"{folder}a", b"two", if_absent=True)
    assert store.get(f"{folder}a").body == b"two"


def test_a_change_names_what_it_replaces(store: ObjectStore, folder: str) -> None:
    """By the ETag that a write or a read gave."""
    written = store.put(f"{folder}a", b"one")
    changed = store.put(f"{folder}a", b"two", if_match=written)
    assert store.get(f"{folder}a").etag == changed
    store.put(f"{folder}a", b"three", if_match=store.get(f"{folder}a").etag)
    assert store.get(f"{folder}a").body == b"three"


def test_a_change_is_refused_where_the_object_has_changed(store: ObjectStore, folder: str) -> None:
    """And the newer content stays."""
    stale = store.put(f"{folder}a", b"one")
    store.put(f"{folder}a", b"two")
    with pytest.raises(PreconditionFailed):
        store.put(f"{folder}a", b"three", if_match=stale)
    assert store.get(f"{folder}a").body == b"two"


def test_a_change_is_refused_where_the_object_is_gone(store: ObjectStore, folder: str) -> None:
    """And nothing is made."""
    stale = store.put(f"{folder}a", b"one")
    store.delete(f"{folder}a")
    with pytest.raises(PreconditionFailed):
        store.put(f"{folder}a", b"two", if_match=stale)
    with pytest.raises(ObjectNotFound):
        store.get(f"{folder}a")


def test_of_many_creators_one_wins(adapter: Adapter, folder: str) -> None:
    """Of 32 at once one wins, and each learns whether it did; after no answer the object is read again."""
    clients, start = [adapter.open() for _ in range(4)], threading.Barrier(32)

    def wins(number: int) -> bool:
        store, body = clients[number % 4], str(number).encode()
        start.wait()
        try:
            store.put(f"{folder}a", body, if_absent=True)
        except PreconditionFailed:
            return False
        except StoreUnavailable:
            return store.get(f"{folder}a").body == body
        return True

    with ThreadPoolExecutor(32) as creators:
        assert sum(creators.map(wins, range(32))) == 1


def test_fault_15_eight_writers_on_one_record_lose_no_update(adapter: Adapter, folder: str) -> None:
    """Each counts to five in the same record, by compare-and-set; every count is there at the end."""
    key = f"{folder}record"
    adapter.store.put(key, b"{}")

    def count_to_five(writer: str) -> None:
        store = adapter.open()
        for count in range(1, 6):
            change(store, key, lambda record, count=count: record | {writer: count})  # type: ignore[misc]

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(count_to_five, "abcdefgh"))
    assert json.loads(adapter.store.get(key).body) == dict.fromkeys("abcdefgh", 5)


def change(store: ObjectStore, key: str, made: Callable[[dict[str, int]], dict[str, int]]) -> None:
    """Compare and set until it holds, or until the record shows that an unanswered write did."""
    while True:
        fetched = store.get(key)
        record = json.loads(fetched.body)
        if made(record) == record:
            return
        try:
            store.put(key, json.dumps(made(record)).encode(), if_match=fetched.etag)
        except (PreconditionFailed, StoreUnavailable):
            continue
        return


# --- copies


def test_what_is_written_together_is_there_as_it_is_written(adapter: Adapter, folder: str) -> None:
    """Everybody sees each write at once, and conditions hold; only the wait for the disk is put off."""
    with adapter.store.group_commit(), adapter.store.group_commit():
        etag = adapter.store.put(f"{folder}a", b"1", if_absent=True)
        adapter.store.copy(f"{folder}a", f"{folder}deep/b", if_match=etag)
        assert adapter.open().get(f"{folder}deep/b").body == b"1"
        with pytest.raises(PreconditionFailed):
            adapter.store.put(f"{folder}a", b"2", if_absent=True)
    assert adapter.store.get(f"{folder}a").body == b"1"


def write_and_fail(store: ObjectStore, folder: str) -> None:
    """Fail between two writes that belong together."""
    with store.group_commit():
        store.put(f"{folder}first", b"1")
        raise StoreUnavailable("in the middle")


def test_an_error_among_writes_that_belong_together_passes_through(store: ObjectStore, folder: str) -> None:
    """What was written before it is there, and the next write is durable by itself again."""
    with pytest.raises(StoreUnavailable, match="in the middle"):
        write_and_fail(store, folder)
    store.put(f"{folder}next", b"2")
    assert [entry.key for entry in store.list(folder)] == [f"{folder}first", f"{folder}next"]


def test_a_copy_has_the_content_and_replaces(store: ObjectStore, folder: str) -> None:
    """And it is an object of its own: what happens to the source later does not reach it."""
    etag = store.put(f"{folder}a", b"hello")
    store.put(f"{folder}b", b"old")
    assert store.copy(f"{folder}a", f"{folder}b", if_match=etag) == store.get(f"{folder}b").etag
    store.put(f"{folder}a", b"changed")
    store.delete(f"{folder}a")
    assert store.get(f"{folder}b").body == b"hello"


def test_a_copy_may_be_made_twice(store: ObjectStore, folder: str) -> None:
    """A repeated submit copies the same upload again."""
    etag = store.put(f"{folder}a", b"hello")
    store.copy(f"{folder}a", f"{folder}b", if_match=etag)
    store.copy(f"{folder}a", f"{folder}b", if_match=etag)
    assert [entry.key for entry in store.list(folder)] == [f"{folder}a", f"{folder}b"]


def test_a_copy_is_refused_where_the_source_has_changed(store: ObjectStore, folder: str) -> None:
    """What was checked is what is copied, or nothing is."""
    store.put(f"{folder}a", b"hello")
    with pytest.raises(PreconditionFailed):
        store.copy(f"{folder}a", f"{folder}b", if_match=OTHER_ETAG)
    with pytest.raises(ObjectNotFound):
        store.get(f"{folder}b")


def test_a_copy_of_nothing_is_not_found(store: ObjectStore, folder: str) -> None:
    """Rather than refused: the caller's upload has expired."""
    with pytest.raises(ObjectNotFound):
        store.copy(f"{folder}a", f"{folder}b", if_match=OTHER_ETAG)


# --- lists


def test_a_list_is_in_the_order_of_whole_keys(store: ObjectStore, folder: str) -> None:
    """Byte by byte, wherever the slashes are; sizes and times are the objects'."""
    names = ["a-b", "a.b", "a/b", "a/b.c", "a/b/d", "a0", "aa/z", "b"]
    for name in ("b", "aa/z", "a0", "a/b.c", "a/b/d", "a.b", "a-b"):
        store.put(folder + name, name.encode())
    names.remove("a/b")
    listed = list(store.list(folder))
    assert [entry.key for entry in listed] == [folder + name for name in names]
    assert [entry.size_bytes for entry in listed] == [len(name) for name in names]
    assert all(abs(store.now() - entry.modified_at) < timedelta(minutes=1) for entry in listed)


@pytest.mark.parametrize(
    ("prefix", "after", "expected"),
    [
        ("", "", ["a-1", "a/1", "a/2", "a/b/3", "a0", "b/4"]),
        ("a", "", ["a-1", "a/1", "a/2", "a/b/3", "a0"]),
        ("a/", "", ["a/1", "a/2", "a/b/3"]),
        ("a/b", "", ["a/b/3"]),
        ("a/b/3", "", ["a/b/3"]),
        ("c", "", []),
        ("a/1/", "", []),
        ("", "a/1", ["a/2", "a/b/3", "a0", "b/4"]),
        ("", "a/", ["a/1", "a/2", "a/b/3", "a0", "b/4"]),
        ("", "a/b", ["a/b/3", "a0", "b/4"]),
        ("a/", "a/2", ["a/b/3"]),
        ("a/", "a/b/3", []),
        ("a/", "a/17", ["a/2", "a/b/3"]),
        ("b/", "a", ["b/4"]),
        ("a", "b", []),
    ],
)
def test_a_list_keeps_to_its_prefix_and_begins_after(
    store: ObjectStore, folder: str, prefix: str, after: str, expected: list[str]
) -> None:
    """`after` need not exist, and may lie before the prefix or after all of it."""
    for name in ("a-1", "a/1", "a/2", "a/b/3", "a0", "b/4"):
        store.put(folder + name, b"")
    listed = store.list(folder + prefix, after=folder + after if after else "")
    assert [entry.key.removeprefix(folder) for entry in listed] == expected


def test_a_list_goes_on_past_a_thousand_keys(store: ObjectStore, folder: str) -> None:
    """Every key once, whatever the pages."""
    names = [f"{folder}{number:04d}" for number in range(1_005)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda name: store.put(name, b""), names))
    assert [entry.key for entry in store.list(folder)] == names


def test_a_list_survives_what_vanishes_under_it(store: ObjectStore, folder: str) -> None:
    """It may show what has gone, or not; it does not fail."""
    names = [f"{folder}{number}/x" for number in range(5)]
    for name in names:
        store.put(name, b"")
    listing = store.list(folder)
    seen = [next(listing).key]
    for name in names[1:]:
        store.delete(name)
    seen += [entry.key for entry in listing]
    assert seen[0] == names[0]
    assert set(seen) <= set(names)


# --- keys


BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/..",
    ".",
    ".tmp/a",
    "a/.b",
    "a b",
    "a\nb",
    "ä",
    "a\\b",
    "a%2fb",
    "a\0",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_none_is_refused(store: ObjectStore, key: str) -> None:
    """Before anything is done with it, whatever was to be done."""
    calls: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.copy(key, "a", if_match=OTHER_ETAG),
        lambda: store.copy("a", key, if_match=OTHER_ETAG),
        lambda: store.delete(key),
        lambda: store.sign_get(key, expires_s=60),
        lambda: store.sign_post(key, max_bytes=1, expires_s=60),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="not a key"):
            call()


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", ".tmp/", "."])
def test_a_prefix_that_leads_out_is_refused(store: ObjectStore, prefix: str) -> None:
    """At the call, not at the first entry."""
    with pytest.raises(ValueError, match="not a key"):
        store.list(prefix)


# --- clocks


def test_age_is_measured_by_the_stores_clock_alone(store: ObjectStore, folder: str) -> None:
    """What was just written is just written, and never in the future."""
    store.put(f"{folder}a", b"hello")
    fetched = store.get(f"{folder}a")
    assert timedelta(0) <= fetched.read_at - fetched.modified_at <= TWO_SECONDS
    assert fetched.read_at.tzinfo is not None


def test_now_is_the_clock_that_dates_objects(store: ObjectStore, folder: str) -> None:
    """Aware UTC."""
    store.put(f"{folder}a", b"hello")
    assert abs(store.now() - store.get(f"{folder}a").modified_at) <= TWO_SECONDS
    assert store.now().utcoffset() == UTC.utcoffset(None)


# --- signed URLs and forms


def test_a_signed_url_reads_one_object(served: Adapter, folder: str) -> None:
    """Without any other credential, and under the name that was signed."""
    store = served.store
    store.put(f"{folder}model.glb", b"hello")
    answer = served.http.get(store.sign_get(f"{folder}model.glb", expires_s=60, filename="Tasse weiß.glb"))
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert "Tasse%20wei%C3%9F.glb" in answer.headers["content-disposition"]


def test_a_signed_url_serves_ranges(served: Adapter, folder: str) -> None:
    """As viewers and resumed downloads ask for them."""
    store = served.store
    etag = store.put(f"{folder}a", b"hello")
    answer = served.http.get(store.sign_get(f"{folder}a", expires_s=60), headers={"Range": "bytes=1-2"})
    assert (answer.status_code, answer.content) == (206, b"el")
    assert (answer.headers["content-range"], answer.headers["etag"]) == ("bytes 1-2/5", f'"{etag}"')


@pytest.mark.parametrize("part", ["key", "signature", "filename"])
def test_a_tampered_url_is_refused(served: Adapter, folder: str, part: str) -> None:
    """Whatever was changed in it."""
    store = served.store
    store.put(f"{folder}aa", b"hello")
    store.put(f"{folder}ab", b"secret")
    url = store.sign_get(f"{folder}aa", expires_s=60, filename="cup.glb")
    tampered = {
        "key": url.replace(f"{folder}aa", f"{folder}ab"),
        "signature": url[:-4] + ("beef" if url[-4:] != "beef" else "dead"),
        "filename": url.replace("cup.glb", "cap.glb"),
    }
    assert served.http.get(tampered[part]).status_code == 403


def test_an_expired_url_is_refused(served: Adapter, folder: str) -> None:
    """By the store's clock."""
    store = served.an_hour_ago
    store.put(f"{folder}a", b"hello")
    assert served.http.get(store.sign_get(f"{folder}a", expires_s=3_540)).status_code == 403
    assert served.http.get(store.sign_get(f"{folder}a", expires_s=3_660)).status_code == 200


@pytest.mark.parametrize("size_bytes", [0, 1, 1_000])
def test_a_signed_form_writes_one_object(served: Adapter, folder: str, size_bytes: int) -> None:
    """Up to its limit, durably, with the status that S3 gives."""
    store, body = served.store, b"x" * size_bytes
    form = store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    answer = served.http.post(form.url, data=dict(form.fields), files={"file": ("cup.png", body, "image/png")})
    assert (answer.status_code, answer.content) == (204, b"")
    fetched = store.get(f"{folder}a")
    assert fetched.body == body


@pytest.mark.parametrize("size_bytes", [1_001, 3_000_000])
def test_a_form_is_refused_past_its_limit(served: Adapter, folder: str, size_bytes: int) -> None:
    """And nothing is written."""
    store = served.store
    form = store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    answer = served.http.post(form.url, data=dict(form.fields), files={"file": b"x" * size_bytes})
    assert answer.status_code in {400, 413}
    with pytest.raises(ObjectNotFound):
        store.get(f"{folder}a")


@pytest.mark.parametrize("changed", [{"key": "test-other"}, {"x-amz-meta-a": "b"}, {"max_bytes": "9"}, {"key": ""}])
def test_a_tampered_form_is_refused(served: Adapter, folder: str, changed: dict[str, str]) -> None:
    """Another key, or a field that was not signed."""
    store = served.store
    form = store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    answer = served.http.post(form.url, data={**form.fields, **changed}, files={"file": b"hello"})
    assert answer.status_code in {400, 403}
    assert list(store.list(folder)) == []


def test_an_expired_form_is_refused(served: Adapter, folder: str) -> None:
    """By the store's clock."""
    store = served.an_hour_ago
    for expires_s, status in ((3_540, 403), (3_660, 204)):
        form = store.sign_post(f"{folder}{expires_s}", max_bytes=1_000, expires_s=expires_s)
        answer = served.http.post(form.url, data=dict(form.fields), files={"file": b"hello"})
        assert answer.status_code == status
    assert Counter(entry.key for entry in store.list(folder)) == {f"{folder}3660": 1}
