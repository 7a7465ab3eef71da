"""Parses the records of the API's responses by the types of their fields.

pydantic does the same and more, but would be a second dependency of every program that uses the client.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Any, Self, get_args, get_origin


class ApiRecord:
    """Base of the records, which are dataclasses. A field `raw` receives the record as the service sent it."""

    __slots__ = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Parse a record; a field that is absent or null takes its default, an unknown field is ignored.

        Raises:
            KeyError, ValueError, TypeError: the body is not such a record.
        """
        raw = dict(body)
        kinds = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass
        values = {name: _parse(kinds[name], raw[name]) for name in kinds if raw.get(name) is not None}
        return cls(**values | ({"raw": raw} if "raw" in kinds else {}))


def _parse(kind: Any, value: Any) -> Any:
    """Parse a value that is not null; what JSON has a type for is returned unchanged."""
    container, parts = get_origin(kind), get_args(kind)
    if container is UnionType:  # of a type and None, or of several that JSON has
        return _parse(parts[0], value)
    if container is tuple:
        kinds = parts[:1] * len(value) if ... in parts else parts
        return tuple(_parse(part, item) for part, item in zip(kinds, value, strict=True))
    if container is Mapping:
        return {name: _parse(parts[1], item) for name, item in dict(value).items() if item or not _is_record(parts[1])}
    if kind is datetime:
        return datetime.fromisoformat(value)
    if _is_record(kind):
        return kind.from_json(value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ApiRecord)
