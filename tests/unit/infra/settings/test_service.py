"""Settings come from the environment, once."""

from pathlib import Path

import pytest

from infra.settings.service import Settings


def test_the_environment_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name begins with TRELLIS2_."""
    monkeypatch.setenv("TRELLIS2_PORT", "9000")
    monkeypatch.setenv("TRELLIS2_STORE", "s3")
    settings = Settings()
    assert (settings.port, settings.store, settings.host) == (9000, "s3", "127.0.0.1")


def test_the_signing_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """All processes over one folder sign alike, so a URL from one is good at another."""
    settings = Settings(data_dir=tmp_path)
    secret = settings.signing_secret()
    assert (len(secret), secret) == (32, Settings(data_dir=tmp_path).signing_secret())
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("signing-secret", 0o600)]


def test_an_endpoint_and_a_region_that_were_left_empty_are_those_of_aws() -> None:
    """As in a file of variables for AWS."""
    options = Settings(s3_endpoint="", s3_region="").s3_options()
    assert (options.endpoint_url, options.region) == (None, None)
