"""The weights arrive whole or not at all: `huggingface_hub` against a Hub on loopback."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.modal_app.weights import SOURCES, Source, WeightsUnavailable, check_access, fetch, open_hub
from tests.support.hub_server import REPO, REVISION, TOKEN, HubServer

SOURCE = Source(REPO, REVISION, ("config.json", "ckpts/*.safetensors"), without=("*_enc_*",), is_gated=True)
CONFIG, WEIGHTS = b"{}", b"weights" * 1_000
FLOW = "ckpts/flow.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A repository with weights, a small file and two files that the engine does not read."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    names = {FLOW: WEIGHTS, "ckpts/shape_enc_1.safetensors": WEIGHTS, "README.md": b"#", "config.json": CONFIG}
    with HubServer(names).running() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The volume."""
    return tmp_path / "weights"


def fetched_bytes(hub: HubServer, folder: Path, *, token: str | None = TOKEN, source: Source = SOURCE) -> int:
    """Fetch as the function does; how many bytes were downloaded."""
    return fetch(folder, open_hub(token, endpoint=hub.url), lambda: None, (source,))


def test_only_what_the_engine_reads_is_downloaded(hub: HubServer, folder: Path) -> None:
    """Encoders, for example, stay on the Hub."""
    assert fetched_bytes(hub, folder) == len(CONFIG) + len(WEIGHTS)
    assert sorted(name for name, _ in hub.served) == [FLOW, "config.json"]
    assert (folder / REPO / FLOW).read_bytes() == WEIGHTS


def test_a_second_run_downloads_nothing(hub: HubServer, folder: Path) -> None:
    """The files are checked by their checksums."""
    fetched_bytes(hub, folder)
    hub.served.clear()
    assert (fetched_bytes(hub, folder), hub.served) == (0, [])


@pytest.mark.parametrize(("name", "body"), [(FLOW, WEIGHTS), ("config.json", CONFIG)])
def test_a_file_that_changed_in_the_volume_is_downloaded_again(
    hub: HubServer, folder: Path, name: str, body: bytes
) -> None:
    """Where its length is the same too: by sha256 for weights, by git's checksum for small files."""
    fetched_bytes(hub, folder)
    (folder / REPO / name).write_bytes(b"x" * len(body))
    assert fetched_bytes(hub, folder) == len(body)
    assert (folder / REPO / name).read_bytes() == body


def test_a_file_that_is_missing_in_the_volume_is_downloaded_again(hub: HubServer, folder: Path) -> None:
    """As after a run that was interrupted: the complete files stay."""
    fetched_bytes(hub, folder)
    hub.served.clear()
    (folder / REPO / FLOW).unlink()
    assert fetched_bytes(hub, folder) == len(WEIGHTS)
    assert [name for name, _ in hub.served] == [FLOW]


def test_a_download_that_breaks_goes_on_from_its_last_whole_chunk(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request asks for the rest alone; the library's own chunks are of 10 MiB."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1_000)
    hub.cut = 1
    fetched_bytes(hub, folder)
    assert [span for name, span in hub.served if name == FLOW] == ["", "bytes=3000-"]
    assert (folder / REPO / FLOW).read_bytes() == WEIGHTS


def test_bytes_that_come_changed_are_downloaded_again(hub: HubServer, folder: Path) -> None:
    """Twice wrong, and then right."""
    hub.altered = 2
    fetched_bytes(hub, folder)
    assert (folder / REPO / FLOW).read_bytes() == WEIGHTS


def test_a_file_that_stays_wrong_is_refused_by_name_and_deleted(hub: HubServer, folder: Path) -> None:
    """A file under its name has the Hub's checksum, always."""
    hub.altered = 9
    with pytest.raises(WeightsUnavailable, match=r"checksums differ .* 3 downloads: \['ckpts/flow\.safetensors'\]"):
        fetched_bytes(hub, folder)
    assert list((folder / REPO / "ckpts").iterdir()) == []


@pytest.mark.parametrize("token", ["hf_other", None])
def test_a_licence_that_was_not_accepted_is_named_with_its_page(
    hub: HubServer, folder: Path, token: str | None
) -> None:
    """So that a person can go there; nothing is downloaded."""
    with pytest.raises(WeightsUnavailable, match=rf"accept its licence at https://huggingface\.co/{REPO}"):
        fetched_bytes(hub, folder, token=token)
    assert hub.served == []
    check_access(open_hub(TOKEN, endpoint=hub.url), SOURCE)


def test_a_file_that_the_commit_lacks_is_named(hub: HubServer, folder: Path) -> None:
    """A pattern that matches nothing is an error, not an empty download."""
    source = dataclasses.replace(SOURCE, files=(*SOURCE.files, "model.safetensors"))
    with pytest.raises(WeightsUnavailable, match=rf"has no model\.safetensors at {REVISION}"):
        fetched_bytes(hub, folder, source=source)


def test_another_commit_is_never_taken_for_the_pinned_one(hub: HubServer, folder: Path) -> None:
    """The Hub does not have it: no branch stands in for it."""
    with pytest.raises(WeightsUnavailable):
        fetched_bytes(hub, folder, source=dataclasses.replace(SOURCE, revision="0" * 40))
    assert hub.served == []


def test_a_hub_that_does_not_answer_is_an_error_with_its_reason(folder: Path) -> None:
    """Not the library's own exception: the function and the doctor print one sentence."""
    with pytest.raises(WeightsUnavailable, match=REPO):
        fetch(folder, open_hub(TOKEN, endpoint="http://127.0.0.1:9"), lambda: None, (SOURCE,))


def test_the_volume_is_committed_after_each_repository(hub: HubServer, folder: Path) -> None:
    """An interrupted run goes on with the next repository."""
    commits: list[int] = []
    hf_api = open_hub(TOKEN, endpoint=hub.url)
    fetch(folder, hf_api, lambda: commits.append(len(list(folder.rglob("*.safetensors")))), (SOURCE,))
    assert commits == [1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.repo)
def test_every_source_is_pinned_to_a_commit(source: Source) -> None:
    """A branch may move."""
    assert len(source.revision) == 40
    int(source.revision, 16)


def test_no_source_is_barred_from_commercial_use() -> None:
    """RMBG-2.0 is."""
    assert not any("RMBG" in source.repo for source in SOURCES)
