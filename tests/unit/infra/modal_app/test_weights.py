"""The weights arrive whole or not at all."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from infra.modal_app.weights import SOURCES, Hub, Source, WeightsUnavailable, fetch, missing

SOURCE = Source("maker/model", "c0ffee", ("config.json", "ckpts/*.safetensors"), without=("*_enc_*",), is_gated=True)
CONFIG, WEIGHTS = b"{}", b"weights" * 1_000


@dataclass
class FakeHub:
    """A Hub in one function: lists files and serves them, each as often changed as it is told."""

    token: str = "hf_good"
    spoilt: int = 0
    served: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return httpx.Response(403)
        path = request.url.path
        if path == "/api/models/maker/model/revision/c0ffee":
            return httpx.Response(200, content=json.dumps({"siblings": self._listed()}))
        name = path.removeprefix("/maker/model/resolve/c0ffee/")
        self.served.append(name)
        body = {"config.json": CONFIG}.get(name, WEIGHTS)
        if self.spoilt > 0 and body is WEIGHTS:
            self.spoilt -= 1
            body = body[:-1] + b"x"
        return httpx.Response(200, content=body)

    def _listed(self) -> list[dict[str, object]]:
        large = {"size": len(WEIGHTS), "lfs": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}}
        names = ("ckpts/flow.safetensors", "ckpts/shape_enc_1.safetensors", "README.md")
        return [{"rfilename": "config.json", "size": len(CONFIG)}, *({"rfilename": name, **large} for name in names)]

    def seen(self, by: str = "hf_good") -> Hub:
        """As a token sees it."""
        return Hub(by, transport=httpx.MockTransport(self))


def nothing() -> None:
    """A volume that needs no commit."""


def test_only_what_the_engine_reads_is_fetched(tmp_path: Path) -> None:
    """Encoders, for one, are left where they are."""
    hub = FakeHub()
    assert fetch(tmp_path, hub.seen(), nothing, (SOURCE,)) == len(CONFIG) + len(WEIGHTS)
    assert sorted(hub.served) == ["ckpts/flow.safetensors", "config.json"]
    assert (tmp_path / "maker/model/ckpts/flow.safetensors").read_bytes() == WEIGHTS


def test_a_second_run_fetches_nothing(tmp_path: Path) -> None:
    """What is there is checked by its sha256."""
    hub = FakeHub()
    fetch(tmp_path, hub.seen(), nothing, (SOURCE,))
    hub.served.clear()
    assert (fetch(tmp_path, hub.seen(), nothing, (SOURCE,)), hub.served) == (0, [])


def test_a_file_that_was_changed_in_the_volume_is_fetched_again(tmp_path: Path) -> None:
    """Also where its length is the same."""
    hub = FakeHub()
    fetch(tmp_path, hub.seen(), nothing, (SOURCE,))
    (tmp_path / "maker/model/ckpts/flow.safetensors").write_bytes(b"x" * len(WEIGHTS))
    assert fetch(tmp_path, hub.seen(), nothing, (SOURCE,)) == len(WEIGHTS)


def test_bytes_that_came_changed_are_asked_for_again(tmp_path: Path) -> None:
    """Twice, and then they are right."""
    hub = FakeHub(spoilt=2)
    fetch(tmp_path, hub.seen(), nothing, (SOURCE,))
    assert (tmp_path / "maker/model/ckpts/flow.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_never_comes_right_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """What has its name is whole, always."""
    with pytest.raises(WeightsUnavailable, match="other bytes"):
        fetch(tmp_path, FakeHub(spoilt=9).seen(), nothing, (SOURCE,))
    assert [path.name for path in (tmp_path / "maker/model/ckpts").iterdir()] == []


def test_a_licence_that_was_not_accepted_is_named_with_its_page(tmp_path: Path) -> None:
    """So that a person can go there."""
    with pytest.raises(WeightsUnavailable, match=r"accept its licence at https://huggingface\.co/maker/model"):
        fetch(tmp_path, FakeHub().seen("hf_other"), nothing, (SOURCE,))


def test_the_volume_is_committed_after_each_repository(tmp_path: Path) -> None:
    """An interrupted run goes on where it stopped."""
    commits: list[int] = []
    fetch(tmp_path, FakeHub().seen(), lambda: commits.append(len(list(tmp_path.rglob("*.safetensors")))), (SOURCE,))
    assert commits == [1]


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    """A worker says so instead of failing somewhere inside."""
    assert missing(tmp_path, (SOURCE,)) == ["maker/model"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.repo)
def test_every_source_is_pinned_to_a_commit(source: Source) -> None:
    """A branch may move."""
    assert len(source.revision) == 40
    int(source.revision, 16)


def test_no_source_is_barred_from_commercial_use() -> None:
    """RMBG-2.0 is."""
    assert not any("RMBG" in source.repo for source in SOURCES)
