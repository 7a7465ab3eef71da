"""Lists that come page by page."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

from trellis2_modal._http import Connection, Request

Record = TypeVar("Record")

PAGE_LIMIT = 100


async def pages(
    connection: Connection, path: str, query: Mapping[str, str | None], read: Callable[[Any], Record]
) -> AsyncGenerator[Record, None]:
    """Every record of a list; pages are fetched as the iterator comes to them. What is None is not asked for."""

    def page(body: Any) -> tuple[list[Record], str | None]:
        return [read(one) for one in body["data"]], body.get("next_cursor")

    asked = {"limit": str(PAGE_LIMIT)} | {name: value for name, value in query.items() if value}
    while True:
        records, cursor = await connection.ask(Request("GET", path, query=asked), page)
        for record in records:
            yield record
        if not cursor:
            return
        asked["after"] = cursor
