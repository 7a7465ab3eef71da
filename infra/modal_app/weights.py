"""The published weights: which repositories, at which commits, and how they reach the weights volume.

Downloads, resumption and checksums are `huggingface_hub`'s. It is imported where it is used: the gateway and the
functions of every minute load this module too, and the import would lengthen their start.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ServiceError
from shared.log import log

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "https://huggingface.co"
PARALLEL_DOWNLOADS = 4  # files
TRIES = 3


class WeightsUnavailable(ServiceError, code="weights_unavailable"):
    """The weights cannot be downloaded; the sentence names the licence to accept, or the files that are wrong."""


@dataclass(frozen=True, slots=True)
class Source:
    """One repository on the Hub at one commit.

    Args:
        files: name patterns of the files that the engine reads; each matches at least one file.
        without: name patterns of files to leave out all the same.
        is_gated: whether its licence must be accepted by the owner of the token.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    without: tuple[str, ...] = ()
    is_gated: bool = False


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


def open_hub(token: str | None, *, endpoint: str = HUB) -> "HfApi":
    """Open the Hub with this token alone: a token that this machine has stored is not read."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, token=token or False)


def check_access(hub: "HfApi", source: Source) -> None:
    """Ask the Hub whether the token may read a repository's files.

    Raises:
        WeightsUnavailable: it may not, or the Hub does not answer.
    """
    with _translated(source):
        hub.auth_check(source.repo)


def fetch(folder: Path, hub: "HfApi", commit: Callable[[], object], sources: tuple[Source, ...] = SOURCES) -> int:
    """Download every file of every source to `<folder>/<repo>/<name>`; return the bytes downloaded.

    A file gets its name once it is complete, and keeps it only if its checksum is the Hub's: sha256 for weights, git's
    SHA-1 for small files. A broken download goes on from its last whole chunk, and a later run keeps complete files.

    Args:
        commit: makes the folder's state visible to other containers; called after each repository.

    Raises:
        WeightsUnavailable: a licence is not accepted, a pattern matches no file, or files are wrong after `TRIES`
            downloads.
    """
    total_bytes = 0
    for source in sources:
        check_access(hub, source)
        with _translated(source):
            downloaded_bytes = _download(folder / source.repo, hub, source)
        commit()
        log("weights.fetched", repo=source.repo, revision=source.revision, bytes=downloaded_bytes)
        total_bytes += downloaded_bytes
    return total_bytes


def _download(folder: Path, hub: "HfApi", source: Source) -> int:
    total_bytes = 0
    for _ in range(TRIES):
        total_bytes += _download_missing(folder, hub, source)
        # A download to a folder takes a file for complete by its metadata; only this reads its bytes.
        checked = hub.verify_repo_checksums(source.repo, revision=source.revision, local_dir=folder)
        wrong = [mismatch["path"] for mismatch in checked.mismatches]
        if not wrong:
            return total_bytes
        for name in wrong:
            (folder / name).unlink()
    raise WeightsUnavailable(f"{source.repo}: checksums differ from the Hub's after {TRIES} downloads: {wrong}")


def _download_missing(folder: Path, hub: "HfApi", source: Source) -> int:
    selection: dict[str, Any] = {
        "revision": source.revision,
        "local_dir": folder,
        "allow_patterns": list(source.files),
        "ignore_patterns": list(source.without),
        "max_workers": PARALLEL_DOWNLOADS,
    }
    files = hub.snapshot_download(source.repo, dry_run=True, **selection)
    names = [file.filename for file in files]
    if absent := [pattern for pattern in source.files if not any(fnmatch(name, pattern) for name in names)]:
        raise WeightsUnavailable(f"{source.repo} has no {', '.join(absent)} at {source.revision}")
    hub.snapshot_download(source.repo, **selection)
    return sum(file.file_size or 0 for file in files if file.will_download)


@contextmanager
def _translated(source: Source) -> Iterator[None]:
    """Raise WeightsUnavailable for what the Hub refuses and for what breaks on the way."""
    from httpx2 import HTTPError  # the client of huggingface_hub, which lets its errors pass
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except HfHubHTTPError as error:
        if isinstance(error, RepositoryNotFoundError) or error.response.status_code in (401, 403):
            hint = f"accept its licence at {HUB}/{source.repo}"
            raise WeightsUnavailable(f"{source.repo} is not open to this token: {hint}") from error
        raise WeightsUnavailable(f"{source.repo}: the Hub answers {error.response.status_code}") from error
    except (HTTPError, OSError) as error:
        raise WeightsUnavailable(f"{source.repo}: {error}") from error
