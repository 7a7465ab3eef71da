"""What the containers install is what pyproject.toml asks for."""

from packaging.version import Version

from infra.requirements.freeze import SERVICE, declared


def test_every_dependency_is_pinned_to_a_version_that_was_asked_for() -> None:
    """A dependency that is missing here would be missed only once a container starts."""
    pins = dict(line.split("==") for line in SERVICE.read_text().splitlines() if not line.startswith("#"))
    wanted = {requirement.name.lower(): requirement for requirement in declared()}
    assert wanted.keys() - pins.keys() == set()
    assert [name for name, one in wanted.items() if Version(pins[name]) not in one.specifier] == []
