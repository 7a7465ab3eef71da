"""The published weights: which they are, and how they get into the volume, whole or not at all."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import httpx

from shared.errors import ServiceError
from shared.log import log

HUB = "https://huggingface.co"
CHUNK_BYTES = 8 << 20
AT_ONCE = 4  # files
TRIES = 3


class WeightsUnavailable(ServiceError):
    """The weights cannot be had: the sentence says whose licence is missing, or what came wrong."""

    code = "weights_unavailable"


@dataclass(frozen=True, slots=True)
class Source:
    """One repository on the Hub at one commit. files, without: name patterns. is_gated: has a licence to accept."""

    repo: str
    revision: str
    files: tuple[str, ...]
    without: tuple[str, ...] = ()
    is_gated: bool = False

    def wants(self, name: str) -> bool:
        """Whether a file of the repository is one that the engine reads."""
        return any(fnmatch(name, wanted) for wanted in self.files) and not any(fnmatch(name, no) for no in self.without)


SOURCES = (
    Source(
        "microsoft/TRELLIS.2-4B",
        "af44b45f2e35a493886929c6d786e563ec68364d",
        ("pipeline.json", "ckpts/*.json", "ckpts/*.safetensors"),
        without=("ckpts/*_enc_*",),  # only training encodes
    ),
    Source(  # the sparse structure decoder is TRELLIS's own
        "microsoft/TRELLIS-image-large",
        "25e0d31ffbebe4b5a97464dd851910efc3002d96",
        ("ckpts/ss_dec_conv3d_16l8_fp16.*",),
    ),
    Source(
        "facebook/dinov3-vitl16-pretrain-lvd1689m",
        "ea8dc2863c51be0a264bab82070e3e8836b02d51",
        ("config.json", "model.safetensors"),
        is_gated=True,
    ),
    Source(
        "ZhengPeng7/BiRefNet",
        "e2bf8e4460fc8fa32bba5ea4d94b3233d367b0e4",
        ("config.json", "*.py", "model.safetensors"),
    ),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the Hub lists it at a commit; `sha256` is there for what is kept outside git, which all weights are."""

    name: str
    size_bytes: int
    sha256: str | None


class Hub:
    """Hugging Face's Hub, as a token sees it."""

    def __init__(self, token: str | None, *, url: str = HUB, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=30,
            follow_redirects=True,
            transport=transport,
        )

    def list(self, source: Source) -> list[Listed]:
        """What the engine needs of a repository. Raises WeightsUnavailable."""
        with self._answer(source, f"/api/models/{source.repo}/revision/{source.revision}?blobs=true") as answer:
            answer.read()
            siblings = answer.json()["siblings"]
        listed = (Listed(one["rfilename"], one["size"], one.get("lfs", {}).get("sha256")) for one in siblings)
        return [one for one in listed if source.wants(one.name)]

    def is_allowed(self, source: Source) -> bool:
        """Whether the token may read a repository's files: its licence was accepted by the token's owner."""
        head = self._client.head(f"/{source.repo}/resolve/{source.revision}/{source.files[0]}")
        return head.status_code < 400

    def read(self, source: Source, name: str) -> Iterator[bytes]:
        """A file's bytes. Raises WeightsUnavailable."""
        with self._answer(source, f"/{source.repo}/resolve/{source.revision}/{name}") as answer:
            yield from answer.iter_bytes(CHUNK_BYTES)

    @contextmanager
    def _answer(self, source: Source, path: str) -> Iterator[httpx.Response]:
        """One streamed answer; refusals, and whatever breaks on the way, in our own words."""
        try:
            with self._client.stream("GET", path) as answer:
                if answer.status_code in (401, 403):
                    raise WeightsUnavailable(
                        f"{source.repo} is not open to this token: accept its licence at {HUB}/{source.repo}"
                    )
                if answer.status_code != 200:
                    raise WeightsUnavailable(f"{source.repo}: the Hub answers {answer.status_code}")
                yield answer
        except httpx.HTTPError as error:
            raise WeightsUnavailable(f"{source.repo}: the Hub does not answer: {error}") from error


def fetch(folder: Path, hub: Hub, commit: Callable[[], object], sources: tuple[Source, ...] = SOURCES) -> int:
    """Bring every file of every source into `<folder>/<repo>/<name>`; the bytes that were missing.

    A file is written beside its place and moved there once its sha256 is right: what has its name is whole. `commit`
    makes the folder's state visible to others; it is called after each repository, so that an interrupted run goes
    on where it stopped.

    Raises:
        WeightsUnavailable: a licence is missing, or the Hub gave other bytes than it lists, TRIES times.
    """
    fetched_bytes = 0
    for source in sources:
        wanted = [(source, listed) for listed in hub.list(source)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            fetched_bytes += sum(pool.map(lambda one: _bring(folder, hub, *one), wanted))
        commit()
        log("weights.fetched", repo=source.repo, revision=source.revision, files=len(wanted))
    return fetched_bytes


def missing(folder: Path, sources: tuple[Source, ...] = SOURCES) -> list[str]:
    """The repositories of which a folder holds nothing."""
    return [source.repo for source in sources if not (folder / source.repo).is_dir()]


def _bring(folder: Path, hub: Hub, source: Source, listed: Listed) -> int:
    path = folder / source.repo / listed.name
    if path.is_file() and path.stat().st_size == listed.size_bytes and listed.sha256 in (None, _sha256(path)):
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    for _ in range(TRIES):
        written = _write(draft, hub.read(source, listed.name))
        if draft.stat().st_size == listed.size_bytes and listed.sha256 in (None, written):
            draft.replace(path)
            return listed.size_bytes
    draft.unlink()
    raise WeightsUnavailable(f"{source.repo}/{listed.name}: the Hub gave other bytes than it lists, {TRIES} times")


def _write(draft: Path, chunks: Iterator[bytes]) -> str:
    """Write a file durably; its sha256."""
    digest = hashlib.sha256()
    with draft.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
