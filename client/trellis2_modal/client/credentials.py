"""Reads the service's URL and credentials from the environment, or from a file in the home folder.

The file, `~/.trellis2_modal_secrets.json`, may contain `url`, `api_key`, `modal_key` and `modal_secret`. Environment
variables take precedence.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from trellis2_modal.errors import KeyUnusable, TrellisError

FILE_NAME = ".trellis2_modal_secrets.json"

# The names of an option in the file, and in the environment (the first that is set counts).
_SOURCES = {
    "base_url": ("url", ("TRELLIS2_URL", "TRELLIS2_API_URL")),
    "api_key": ("api_key", ("TRELLIS2_API_KEY",)),
    "modal_key": ("modal_key", ("TRELLIS2_MODAL_KEY",)),
    "modal_secret": ("modal_secret", ("TRELLIS2_MODAL_SECRET",)),
}


class SecretsUnreadable(TrellisError):
    """The secrets file exists, but is not a JSON object of strings."""

    code = "secrets_unreadable"


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Read `base_url`, `api_key`, `modal_key` and `modal_secret`, as far as they are set.

    Raises:
        SecretsUnreadable: the secrets file is invalid.
    """
    options = _read_file(environment)
    for option, (_, names) in _SOURCES.items():
        if text := next((environment[name] for name in names if environment.get(name)), ""):
            options[option] = text
    return options


def headers(
    api_key: str | None = None, modal_key: str | None = None, modal_secret: str | None = None
) -> dict[str, str]:
    """Build the headers of authentication. Behind Modal's proxy, which uses Authorization, the API key has its own.

    Raises:
        KeyUnusable: a key cannot be sent in a header.
    """
    for name, text in {"API key": api_key, "Modal key": modal_key, "Modal secret": modal_secret}.items():
        if text and not (text.isascii() and text.isprintable() and " " not in text):
            raise KeyUnusable(f"the {name} has characters that no key has: copy it again")
    if modal_key and modal_secret:
        proxy = {"Modal-Key": modal_key, "Modal-Secret": modal_secret}
        return proxy | ({"X-API-Key": api_key} if api_key else {})
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _read_file(environment: Mapping[str, str]) -> dict[str, str]:
    home = environment.get("HOME") or environment.get("USERPROFILE")
    path = Path(home, FILE_NAME) if home else None
    if path is None or not path.is_file():
        return {}
    try:
        body = json.loads(path.read_bytes())
        options = {option: body[name] for option, (name, _) in _SOURCES.items() if body.get(name)}
    except (OSError, ValueError, AttributeError) as error:
        raise SecretsUnreadable(f"{path} cannot be read: {error}") from error
    if not all(isinstance(text, str) for text in options.values()):
        raise SecretsUnreadable(f"{path} has a value that is not a string")
    return options
