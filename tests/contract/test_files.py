"""What the file store adds to the contract: processes, crashes, the disk, and its own HTTP."""

import hashlib
import multiprocessing
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import pytest

from infra.filestore.http import CONTENT_TYPES
from infra.filestore.store import FileStore
from shared.errors import ObjectNotFound, PreconditionFailed, StoreRefused, StoreUnavailable
from tests.contract.adapters import Adapter
from tests.support.fakes import HandClock
from worker.runner import job_function

BIG = Random(1).randbytes(200_000)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def open_store(root: Path) -> FileStore:
    """A store, by the machine's clock."""
    return FileStore(root, secret=b"secret")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store."""
    return open_store(tmp_path)


def objects(root: Path) -> list[str]:
    """Every file and every empty folder that is no part of the store's own."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] not in {".tmp", ".locks"} and (path.is_file() or not any(path.iterdir()))
    )


def drafts(root: Path) -> list[Path]:
    """What lies in the folders of drafts."""
    return [path for path in (root / ".tmp").rglob("*") if path.is_file()]


# --- processes and crashes


CREATES_UNTIL_KILLED = """
import sys
from pathlib import Path
from infra.filestore.store import FileStore
from infra.filestore.http import CONTENT_TYPES
store = FileStore(Path(sys.argv[1]), secret=b"secret")
number = 0
while True:
    store.put(f"jobs/{number}/job.json", b"body of %d" % number, if_absent=True)
    store.put(f"pending/{number}", b"")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("acknowledged", [1, 10, 60])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, acknowledged: int) -> None:
    """Whole, whatever the process was doing; and what it left half made is not seen, and swept at the next start."""
    process = subprocess.Popen(
        [sys.executable, "-c", CREATES_UNTIL_KILLED, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    for _ in range(acknowledged):
        last = int(process.stdout.readline())
    process.kill()
    last = max([last, *map(int, process.stdout.read().split())])
    process.wait()
    store = open_store(tmp_path)
    assert [store.get(f"jobs/{n}/job.json").body for n in range(last + 1)] == [
        b"body of %d" % n for n in range(last + 1)
    ]
    assert len(list(store.list("pending/"))) >= last + 1
    assert all(entry.size_bytes for entry in store.list("jobs/"))
    assert drafts(tmp_path) == []


def test_drafts_of_living_processes_stay(tmp_path: Path) -> None:
    """A start beside a running process takes nothing from it."""
    store = open_store(tmp_path)
    with store.draft() as draft:
        draft.write(b"hello")
        open_store(tmp_path)
        store.place(draft, "a")
    assert store.get("a").body == b"hello"


def test_drafts_that_are_not_placed_leave_nothing(store: FileStore, tmp_path: Path) -> None:
    """An upload that breaks off is as if it had never begun."""
    with store.draft() as draft:
        draft.write(b"hello")
    assert (drafts(tmp_path), objects(tmp_path)) == ([], [])


def count_in(root: Path, times: int) -> None:
    """Add to a number by compare-and-set."""
    store = open_store(root)
    for _ in range(times):
        while True:
            fetched = store.get("number")
            try:
                store.put("number", str(int(fetched.body) + 1).encode(), if_match=fetched.etag)
            except PreconditionFailed:
                continue
            break


def test_fault_15_processes_on_one_record_lose_no_update(store: FileStore, tmp_path: Path) -> None:
    """Four processes count to 25 each, in one file."""
    store.put("number", b"0")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_in, args=(tmp_path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert store.get("number").body == b"100"


def test_a_read_beside_changes_is_of_one_version(store: FileStore) -> None:
    """Body, size and ETag belong together, for small objects and for large ones."""
    bodies = [b"small", b"x" * 100_000, b"yy" * 70_000]
    store.put("a", bodies[0])
    done = threading.Event()

    def change() -> None:
        for number in range(60):
            store.put("a", bodies[number % 3])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        while not done.is_set():
            fetched = store.get("a")
            assert fetched.size_bytes == len(fetched.body)
            assert fetched.etag == hashlib.md5(fetched.body, usedforsecurity=False).hexdigest()


# --- folders and the disk


def test_folders_go_with_their_last_object(store: FileStore, tmp_path: Path) -> None:
    """A service that runs for years does not fill its disk with empty folders."""
    store.put("jobs/1/job.json", b"")
    store.put("jobs/1/2/model.glb", b"")
    store.delete("jobs/1/2/model.glb")
    assert objects(tmp_path) == ["jobs/1/job.json"]
    store.delete("jobs/1/job.json")
    assert objects(tmp_path) == []


def test_a_folder_that_vanishes_under_a_write_is_made_again(store: FileStore) -> None:
    """One thread empties a folder over and over while others put into it."""

    def come_and_go(name: str) -> None:
        for _ in range(40):
            store.put(f"a/b/{name}", b"", if_absent=True)
            store.delete(f"a/b/{name}")
        store.put(f"a/b/{name}", b"")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, "wxyz"))
    assert [entry.key for entry in store.list("a/")] == ["a/b/w", "a/b/x", "a/b/y", "a/b/z"]


def test_a_copy_takes_no_space(store: FileStore, tmp_path: Path) -> None:
    """It is another name of the same file, and made again it leaves no third one."""
    etag = store.put("a", BIG)
    store.copy("a", "b", if_match=etag)
    store.copy("a", "b", if_match=etag)
    assert (tmp_path / "a").samefile(tmp_path / "b")
    assert drafts(tmp_path) == []


def test_a_copy_beside_changes_is_of_the_version_that_was_named(store: FileStore) -> None:
    """Or it is refused; it never takes what came between the check and the copy."""
    wanted = store.put("a", b"wanted")
    done = threading.Event()

    def change() -> None:
        for number in range(300):
            store.put("a", b"other" if number % 2 else b"wanted")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change)
        while not done.is_set():
            with suppress(PreconditionFailed):
                store.copy("a", "b", if_match=wanted)
                assert store.get("b").body == b"wanted"


def test_a_key_in_place_of_a_folder_is_refused(store: FileStore) -> None:
    """Where S3 would keep both, a folder cannot: a person must know."""
    store.put("a/b", b"")
    store.put("c", b"")
    for key in ("a", "c/d"):
        with pytest.raises(StoreRefused):
            store.put(key, b"")


WRITES_PAST_THE_LIMIT = """
import resource, sys
from pathlib import Path
from infra.filestore.store import FileStore
from infra.filestore.http import CONTENT_TYPES
from shared.errors import StoreRefused
store = FileStore(Path(sys.argv[1]), secret=b"secret")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.put("a", bytes(2000))
except StoreRefused:
    store.put("b", bytes(900))
"""


def test_fault_14_a_full_disk_refuses_the_write(store: FileStore, tmp_path: Path) -> None:
    """Nothing of it is seen, and what fits is written. The disk's fullness is played by a limit on files."""
    subprocess.run([sys.executable, "-c", WRITES_PAST_THE_LIMIT, tmp_path], check=True)
    assert [(entry.key, entry.size_bytes) for entry in store.list("")] == [("b", 900)]


def test_fault_14_a_disk_that_fails_is_unavailable(store: FileStore, tmp_path: Path) -> None:
    """Here: its folder of drafts has been taken away."""
    for folder in (tmp_path / ".tmp").iterdir():
        folder.rmdir()
    with pytest.raises(StoreUnavailable):
        store.put("new/a", b"hello")


def test_objects_are_dated_by_the_stores_clock(tmp_path: Path) -> None:
    """To the microsecond, whatever the machine's date is."""
    clock = HandClock(NOON)
    store = FileStore(tmp_path, secret=b"secret", clock=clock)
    store.put("a", b"hello")
    clock.advance(31.5)
    fetched = store.get("a")
    assert (fetched.modified_at, (fetched.read_at - fetched.modified_at).total_seconds()) == (NOON, 31.5)
    assert [entry.modified_at for entry in store.list("")] == [NOON]


def test_a_secret_is_required(tmp_path: Path) -> None:
    """An empty one would let everybody sign."""
    with pytest.raises(ValueError, match="secret"):
        FileStore(tmp_path, secret=b"")


def test_a_store_signs_for_no_other(tmp_path: Path) -> None:
    """Another secret's signature is none."""
    url = httpx.URL(FileStore(tmp_path, secret=b"other").sign_get("a", expires_s=60))
    assert not open_store(tmp_path).signer.allows_get("a", dict(url.params), now=datetime.now(UTC))


# --- its own HTTP


@pytest.fixture
def url(files: Adapter, folder: str) -> Iterator[str]:
    """A signed URL of a model."""
    files.store.put(f"{folder}model.glb", BIG)
    yield files.store.sign_get(f"{folder}model.glb", expires_s=60)
    files.store.delete(f"{folder}model.glb")


def test_an_object_is_served_by_its_kind(files: Adapter, url: str) -> None:
    """And no browser may think that it knows better."""
    headers = files.http.get(url).headers
    assert (headers["content-type"], headers["x-content-type-options"]) == ("model/gltf-binary", "nosniff")
    assert headers["cache-control"].startswith("private, max-age=")


def test_an_uploaded_page_is_not_served_as_one(files: Adapter, folder: str) -> None:
    """Whatever it calls itself."""
    files.store.put(f"{folder}page.html", b"<script>")
    served = files.http.get(files.store.sign_get(f"{folder}page.html", expires_s=60))
    assert served.headers["content-type"] == "application/octet-stream"


def test_a_known_object_is_not_sent_again(files: Adapter, url: str) -> None:
    """If-None-Match, with one ETag, several, or any."""
    etag = files.http.get(url).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = files.http.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert files.http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_tells_what_get_would(files: Adapter, url: str) -> None:
    """Without the body."""
    head, got = files.http.head(url), files.http.get(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(BIG)))
    assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=-3", 206, BIG[-3:]),
        ("bytes=199998-", 206, BIG[-2:]),
        ("bytes=300000-", 416, b""),
        ("bytes=0-0", 206, BIG[:1]),
    ],
)
def test_ranges_are_served(files: Adapter, url: str, asked: str, status: int, expected: bytes) -> None:
    """From the front, from the back, and none that is not there."""
    answer = files.http.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, expected)


def test_a_signed_url_of_nothing_is_not_found(files: Adapter, folder: str) -> None:
    """As a problem."""
    answer = files.http.get(files.store.sign_get(f"{folder}a", expires_s=60))
    assert (answer.status_code, answer.json()["code"]) == (404, "object_not_found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unsigned_url_is_not_allowed(files: Adapter, url: str) -> None:
    """As a problem, which does not tell whether the object exists."""
    for unsigned in (url.partition("?")[0], url.partition("?")[0] + "x", url.replace("expires=", "expires=x")):
        answer = files.http.get(unsigned)
        assert (answer.status_code, answer.json()["code"]) == (403, "signature_invalid")


def field(name: bytes, value: bytes) -> bytes:
    """One field of a form."""
    return b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)


def broken_forms(form: dict[str, str]) -> dict[str, tuple[str, bytes]]:
    """Bodies, and their types, of forms that are none."""
    kind, end = "multipart/form-data; boundary=cut", b"\r\n--cut--\r\n"
    fields = b"".join(field(name.encode(), value.encode()) for name, value in form.items())
    file = b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello'
    return {
        "not a form": ("application/json", b"{}"),
        "no boundary": ("multipart/form-data", fields + file + end),
        "no file": (kind, fields + b"--cut--\r\n"),
        "cut in the file": (kind, fields + file),
        "cut in the fields": (kind, fields[:-60]),
        "fields after the file": (kind, file + b"\r\n" + fields + end),
        "large fields": (kind, field(b"a", b"x" * 20_000) + fields + file + end),
        "many fields": (kind, b"".join(field(b"%d" % n, b"") for n in range(20)) + fields + file + end),
        "garbage": (kind, b"\x00" * 1000),
    }


@pytest.mark.parametrize("broken", broken_forms({}))
def test_fault_22_a_broken_form_writes_nothing(files: Adapter, folder: str, broken: str) -> None:
    """And is told so: malformed, or not allowed where it had no signed fields when its file began."""
    form = files.store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    kind, body = broken_forms(dict(form.fields))[broken]
    answer = files.http.post(form.url, content=body, headers={"Content-Type": kind})
    assert answer.status_code == (403 if broken == "fields after the file" else 400)
    assert list(files.store.list(folder)) == []


def test_what_follows_the_file_is_ignored(files: Adapter, folder: str) -> None:
    """As S3 ignores it: whoever could add a field could otherwise change the key, and with another file the content."""
    form = files.store.sign_post(f"{folder}a", max_bytes=1_000, expires_s=60)
    parts = [(name, (None, value)) for name, value in form.fields.items()]
    more = [("key", (None, f"{folder}b")), ("file", ("b", b" and more"))]
    answer = files.http.post(form.url, files=[*parts, ("file", ("a", b"hello")), *more])
    assert answer.status_code == 204
    assert [(entry.key, entry.size_bytes) for entry in files.store.list(folder)] == [(f"{folder}a", 5)]


def test_fault_22_an_upload_without_end_takes_no_memory(files: Adapter, folder: str) -> None:
    """64 MB against a limit of 60: refused, after passing through less than 8, the client's own chunks included."""

    def endless() -> Iterator[bytes]:
        yield broken_forms(dict(form.fields))["cut in the file"][1]
        for _ in range(64):
            yield bytes(1_000_000)

    form = files.store.sign_post(f"{folder}a", max_bytes=60_000_000, expires_s=60)
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    tracemalloc.start()
    answer = files.http.post(form.url, content=endless(), headers=kind)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak_bytes < 8_000_000
    with pytest.raises(ObjectNotFound):
        files.store.get(f"{folder}a")


@pytest.mark.parametrize(("filename", "content_type"), job_function.CONTENT_TYPES.items())
def test_artifacts_are_served_as_what_they_are(filename: str, content_type: str) -> None:
    """As a bucket serves them, which is told on upload; the folder goes by the ending."""
    assert CONTENT_TYPES.get(Path(filename).suffix, "application/octet-stream") == content_type
