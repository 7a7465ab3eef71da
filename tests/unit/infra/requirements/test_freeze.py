"""What the containers install is what pyproject.toml asks for."""

from packaging.version import Version

from infra.requirements.freeze import FOLDER, SERVICE_EXTRAS, declared


def pins(name: str) -> dict[str, str]:
    """The versions of one file by package."""
    return dict(line.split("==") for line in (FOLDER / name).read_text().splitlines() if line[0] != "#")


def test_every_dependency_is_pinned_to_a_version_that_was_asked_for() -> None:
    """A dependency that is missing here would be missed only once a container starts."""
    for requirements, versions in (
        (declared(*SERVICE_EXTRAS), pins("service.txt")),
        (declared("modal", base=False), pins("hub.txt")),
    ):
        declared_by_name = {requirement.name.lower(): requirement for requirement in requirements}
        assert declared_by_name.keys() - versions.keys() == set()
        assert [name for name, item in declared_by_name.items() if Version(versions[name]) not in item.specifier] == []


def test_no_image_pins_a_package_twice() -> None:
    """The second version would replace the first, which may be the only one that works with its neighbours."""
    assert pins("service.txt").keys() & pins("hub.txt").keys() == set()
    assert pins("service.txt").keys() & pins("gpu.txt").keys() == set()
