"""Where the service is and what opens it: from the environment, or from a file in the home folder.

The file, `~/.trellis2_modal_secrets.json`, holds any of `url`, `api_key`, `modal_key` and `modal_secret`. The
environment wins over it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from trellis2_modal.errors import KeyUnusable, TrellisError

FILE_NAME = ".trellis2_modal_secrets.json"

# What an option is called in the environment, the first one set first, and in the file.
_ENVIRONMENT = {
    "base_url": ("TRELLIS2_URL", "TRELLIS2_API_URL"),
    "api_key": ("TRELLIS2_API_KEY",),
    "modal_key": ("TRELLIS2_MODAL_KEY",),
    "modal_secret": ("TRELLIS2_MODAL_SECRET",),
}
_IN_FILE = {"base_url": "url", "api_key": "api_key", "modal_key": "modal_key", "modal_secret": "modal_secret"}


class SecretsUnreadable(TrellisError):
    """The file of secrets is there, but is no JSON object of texts."""

    code = "secrets_unreadable"


def credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """`base_url`, `api_key`, `modal_key` and `modal_secret`, as far as the environment or the home folder has them.

    Raises:
        SecretsUnreadable: the file is not what it should be.
    """
    found = _of_file(environment)
    for option, names in _ENVIRONMENT.items():
        if text := next((environment[name] for name in names if environment.get(name)), ""):
            found[option] = text
    return found


def headers(
    api_key: str | None = None, modal_key: str | None = None, modal_secret: str | None = None
) -> dict[str, str]:
    """Modal's proxy auth takes the Authorization header for itself, so behind it the API key has another.

    Raises:
        KeyUnusable: one of them cannot be sent.
    """
    for name, text in {"API key": api_key, "Modal key": modal_key, "Modal secret": modal_secret}.items():
        if text and not (text.isascii() and text.isprintable() and " " not in text):
            raise KeyUnusable(f"the {name} holds characters that no key has: copy it anew")
    if modal_key and modal_secret:
        proxy = {"Modal-Key": modal_key, "Modal-Secret": modal_secret}
        return proxy | ({"X-API-Key": api_key} if api_key else {})
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _of_file(environment: Mapping[str, str]) -> dict[str, str]:
    home = environment.get("HOME") or environment.get("USERPROFILE")
    path = Path(home, FILE_NAME) if home else None
    if path is None or not path.is_file():
        return {}
    try:
        body = json.loads(path.read_bytes())
        given = {option: body[name] for option, name in _IN_FILE.items() if body.get(name)}
    except (OSError, ValueError, AttributeError) as error:
        raise SecretsUnreadable(f"{path} cannot be read: {error}") from error
    if not all(isinstance(text, str) for text in given.values()):
        raise SecretsUnreadable(f"{path} holds something else than texts")
    return given
