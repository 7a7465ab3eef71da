"""The service's URL and keys from the environment and the secrets file."""

import json
from pathlib import Path

import pytest
from trellis2_modal.client import Client
from trellis2_modal.client.credentials import SecretsUnreadable, credentials

from tests.unit.client.scripted_transport import Script, job

FILE = {"modal_key": "wk-1", "modal_secret": "ws-1"}


def home(folder: Path, text: str) -> dict[str, str]:
    """Make an environment whose home folder has a secrets file."""
    (folder / ".trellis2_modal_secrets.json").write_text(text)
    return {"HOME": str(folder)}


def test_file_in_the_home_folder_is_read(tmp_path: Path) -> None:
    """Modal's tokens, URL and API key; other fields are ignored."""
    assert credentials(home(tmp_path, json.dumps(FILE))) == FILE
    whole = {**FILE, "url": "https://3d.example.com", "api_key": "t2_a_b", "note": 7}
    found = credentials({"USERPROFILE": home(tmp_path, json.dumps(whole))["HOME"]})
    assert found == {**FILE, "base_url": "https://3d.example.com", "api_key": "t2_a_b"}


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    """Each variable by itself; an empty one is ignored; of two names for the URL the shorter one counts."""
    environment = home(tmp_path, json.dumps(FILE)) | {"TRELLIS2_MODAL_KEY": "wk-2", "TRELLIS2_MODAL_SECRET": ""}
    urls = {"TRELLIS2_API_URL": "https://old.example.com", "TRELLIS2_URL": "https://new.example.com"}
    assert credentials(environment) == {"modal_key": "wk-2", "modal_secret": "ws-1"}
    assert credentials(urls) == {"base_url": "https://new.example.com"}


def test_without_environment_and_file_there_are_no_options(tmp_path: Path) -> None:
    """No home, or one without the file."""
    assert credentials({}) == credentials({"HOME": str(tmp_path)}) == {}


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"modal_key": 7}', '{"modal_key": ["wk"]}'])
def test_invalid_file_is_named(text: str, tmp_path: Path) -> None:
    """It is an error, and the message does not show the content."""
    with pytest.raises(SecretsUnreadable, match=r"\.trellis2_modal_secrets\.json") as caught:
        credentials(home(tmp_path, text))
    assert "wk" not in str(caught.value)


def test_arguments_override_both(tmp_path: Path) -> None:
    """They are sent in the headers of Modal's proxy authentication."""
    script = Script([job()])
    environment = home(tmp_path, json.dumps(FILE | {"url": "https://elsewhere.example.com"}))
    options = {"base_url": "https://3d.example.com", "modal_key": "wk-3", "api_key": None}
    Client.from_environment(environment, transport=script.transport, **options).get("job_1")
    (request,) = script.requests
    assert request.url.host == "3d.example.com"
    assert (request.headers["Modal-Key"], request.headers["Modal-Secret"]) == ("wk-3", "ws-1")
