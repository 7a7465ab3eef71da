"""Connection to the service: credentials, retries, pagination, and errors by name.

httpx retries only failed connects (`HTTPTransport(retries=...)`), not statuses or Retry-After. tenacity and stamina
would be a second dependency of every program that uses this client. So the retry loop is here.
"""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar

import httpx

from trellis2_modal._transport import CONNECT_TIMEOUT_S, TIMEOUT_S, Transport
from trellis2_modal.errors import ApiError, NotReachable, UrlInvalid, api_error

Record = TypeVar("Record")
# Opens the body for one attempt, as keyword arguments of httpx: `json`, `data`, `files`.
Content: TypeAlias = Callable[[], AbstractContextManager[Mapping[str, Any]]]

TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
PAGE_LIMIT = 100

# The service did not carry out the request, or a second attempt does no harm.
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, which can be sent several times.

    path: relative to the service's URL, or an absolute URL (of a store). content: opened again for each attempt.
    repeatable: whether it does no harm if the service carries it out twice.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = lambda: nullcontext({})
    repeatable: bool = True
    read_timeout_s: float = TIMEOUT_S


class Connection:
    """Sends requests; retries lost connections, 429, 502, 503 and 504 with backoff, jitter and Retry-After.

    Credentials go to the service's own origin only: a signed URL of a store has its own.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], transport: Transport, *, tries: int = TRIES) -> None:
        self._base = service_url(base_url)
        self._headers = dict(headers)
        self._tries = tries
        self.transport = transport

    async def send(self, request: Request, *, read_body: bool = True) -> httpx.Response:
        """Send a request and, if `read_body`, read the whole response; its status is below 400.

        Raises:
            NotReachable: no attempt got a response.
            ApiError: the service responded with an error.
        """
        for attempt in range(1, self._tries + 1):
            is_last = attempt == self._tries
            try:
                response = await self._send_once(request)
                if read_body and response.status_code < 400:
                    await self.transport.read(response)
            except httpx.RequestError as error:
                if is_last or not _is_retryable(request, error):
                    raise NotReachable(f"{self._base} does not respond: {error or type(error).__name__}") from error
                await self.back_off(attempt)
                continue
            if response.status_code < 400:
                return response
            is_transient = response.status_code in _RETRIED_STATUSES
            if is_last or not is_transient or not (request.repeatable or response.status_code == 429):
                raise await self._read_error(response)
            await self.transport.close_response(response)
            await self.back_off(attempt, min(_retry_after_s(response.headers) or 0.0, LONGEST_RETRY_AFTER_S))
        raise AssertionError("unreachable")

    async def fetch(self, request: Request, parse: Callable[[Any], Record]) -> Record:
        """Send a request and parse the JSON of its response.

        Raises:
            NotReachable: also if the response cannot be parsed: then it is not the service that responded.
        """
        response = await self.send(request)
        try:
            return parse(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise NotReachable(f"the response from {self._base} is not the service's") from error

    async def fetch_pages(
        self, path: str, query: Mapping[str, str | None], parse: Callable[[Any], Record]
    ) -> AsyncGenerator[Record, None]:
        """Iterate over a list, fetching each page when the iterator reaches it. Queries that are None are left out."""

        def parse_page(body: Any) -> tuple[list[Record], str | None]:
            return [parse(item) for item in body["data"]], body.get("next_cursor")

        sent = {"limit": str(PAGE_LIMIT)} | {name: value for name, value in query.items() if value}
        while True:
            records, cursor = await self.fetch(Request("GET", path, query=sent), parse_page)
            for record in records:
                yield record
            if not cursor:
                return
            sent["after"] = cursor

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[httpx.Response]:
        """Send a request as `send` does, but leave the body to `transport.iter_bytes`, whose errors are httpx's."""
        response = await self.send(request, read_body=False)
        try:
            yield response
        finally:
            await self.transport.close_response(response)

    async def back_off(self, failures: int, least_s: float = 0.0) -> None:
        """Sleep before the next attempt, longer after more failures in a row, but at least `least_s`.

        With jitter (10 to 100 %), so that many clients do not retry at the same moment.
        """
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (failures - 1))
        await self.transport.pause(max(least_s, random.uniform(0.1, 1) * longest_s))  # noqa: S311 - jitter

    async def _send_once(self, request: Request) -> httpx.Response:
        url = self._base.join(request.path)
        is_ours = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        with request.content() as content:
            built = self.transport.http.build_request(
                request.method,
                url.copy_merge_params(request.query) if request.query else url,
                headers={**(self._headers if is_ours else {}), **request.headers},
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=request.read_timeout_s),
                **content,
            )
            return await self.transport.send(built)

    async def _read_error(self, response: httpx.Response) -> ApiError:
        """Read an error response. Its body may be no JSON: a proxy in between sends HTML."""
        try:
            await self.transport.read(response)
            body = response.json()
        except (httpx.TransportError, ValueError):
            body = {}
        finally:
            await self.transport.close_response(response)
        return api_error(response.status_code, body if isinstance(body, dict) else {}, _retry_after_s(response.headers))


def json_content(body: Mapping[str, Any]) -> Content:
    """Make the content of a request with a JSON body."""
    return lambda: nullcontext({"json": body})


def service_url(text: str) -> httpx.URL:
    """Parse a service's URL and end it with a slash. Raises UrlInvalid."""
    with suppress(httpx.InvalidURL):
        url = httpx.URL(text.rstrip("/") + "/")
        if url.scheme in ("http", "https") and url.host:
            return url
    raise UrlInvalid(f"{text!r} is not an http or https URL")


def _is_retryable(request: Request, error: httpx.RequestError) -> bool:
    """Return whether another attempt may succeed, and does no harm if the service carried out this one."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return False  # the request itself is wrong
    return request.repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Read Retry-After as seconds; a date is compared with the response's own Date."""
    value = headers.get("Retry-After", "")
    try:
        if value.isdigit():
            return float(value)
        now = parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)
        return max((parsedate_to_datetime(value) - now).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None
