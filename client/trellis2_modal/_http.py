"""One way to the service: credentials, retries, and errors by name."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from trellis2_modal._transport import CONNECT_TIMEOUT_S, TIMEOUT_S, Transport
from trellis2_modal.errors import ApiError, NotReachable, UrlInvalid, api_error

Read = TypeVar("Read")

TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0

# The answer says that the request was not carried out, or it may be carried out again without harm.
_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, repeatable as often as it takes.

    path: below the service's URL, or a whole URL (a store's). content: the body as httpx's keywords (`json`, `data`,
    `files`), opened anew for every try. repeatable: whether carrying it out twice is harmless.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Callable[[], AbstractContextManager[Mapping[str, Any]]] = lambda: nullcontext({})
    repeatable: bool = True
    read_timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer whose body is still coming; errors while reading it are httpx's own."""

    status: int
    headers: httpx.Headers
    chunks: AsyncIterator[bytes]


class Connection:
    """Sends calls; tries again on lost connections and on 429, 502, 503 and 504, with backoff, jitter and Retry-After.

    Credentials go to the service's own origin and nowhere else: a signed URL of a store carries its own.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], wire: Transport, *, tries: int = TRIES) -> None:
        self._base = service_url(base_url)
        self._headers = dict(headers)
        self._tries = tries
        self.wire = wire

    async def send(self, call: Request) -> httpx.Response:
        """Send a call until it is answered whole; answers below 400 are returned.

        Raises:
            NotReachable: no try was answered.
            ApiError: the service answered with a problem.
        """
        return await self._answered(call, read_whole=True)

    async def ask(self, call: Request, read: Callable[[Any], Read]) -> Read:
        """As `send`, for what `read` makes of the answer's JSON; an answer that it cannot read is not the service's."""
        response = await self.send(call)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise NotReachable(f"what answers at {self._base} is not the service") from error

    @asynccontextmanager
    async def stream(self, call: Request) -> AsyncIterator[Streamed]:
        """As `send`, with the body still to be read."""
        response = await self._answered(call, read_whole=False)
        try:
            yield Streamed(response.status_code, response.headers, self.wire.chunks(response))
        finally:
            await self.wire.leave(response)

    async def pause(self, failures: int) -> None:
        """Wait as long as suits so many failures in a row."""
        await self.wire.pause(_backoff_s(failures))

    async def _answered(self, call: Request, *, read_whole: bool) -> httpx.Response:
        for attempt in range(1, self._tries + 1):
            is_last = attempt == self._tries
            try:
                response = await self._once(call)
                if read_whole and response.status_code < 400:
                    await self.wire.read(response)
            except httpx.RequestError as error:
                if is_last or not _may_repeat(call, error):
                    raise NotReachable(f"{self._base} does not answer: {error or type(error).__name__}") from error
                await self.pause(attempt)
                continue
            if response.status_code < 400:
                return response
            passing = response.status_code in _PASSING and (call.repeatable or response.status_code == 429)
            if is_last or not passing:
                raise await self._problem(response)
            await self.wire.leave(response)
            told_s = min(_retry_after_s(response.headers) or 0.0, LONGEST_RETRY_AFTER_S)
            await self.wire.pause(max(_backoff_s(attempt), told_s))
        raise AssertionError("unreachable")

    async def _once(self, call: Request) -> httpx.Response:
        url = self._base.join(call.path)
        is_ours = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        with call.content() as content:
            request = self.wire.http.build_request(
                call.method,
                url.copy_merge_params(call.query) if call.query else url,
                headers={**(self._headers if is_ours else {}), **call.headers},
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=call.read_timeout_s),
                **content,
            )
            return await self.wire.send(request)

    async def _problem(self, response: httpx.Response) -> ApiError:
        """The error that an answer stands for, whoever gave it: a proxy in between writes HTML."""
        try:
            await self.wire.read(response)
            body = response.json()
        except (httpx.TransportError, ValueError):
            body = {}
        finally:
            await self.wire.leave(response)
        return api_error(response.status_code, body if isinstance(body, dict) else {}, _retry_after_s(response.headers))


def json_content(body: Mapping[str, Any]) -> Callable[[], AbstractContextManager[Mapping[str, Any]]]:
    """A JSON body for a Call."""
    return lambda: nullcontext({"json": body})


def service_url(text: str) -> httpx.URL:
    """A service's URL with a slash at its end. Raises UrlInvalid where it is none."""
    with suppress(httpx.InvalidURL):
        url = httpx.URL(text.rstrip("/") + "/")
        if url.scheme in ("http", "https") and url.host:
            return url
    raise UrlInvalid(f"{text!r} is not an http or https URL")


def _may_repeat(call: Request, error: httpx.RequestError) -> bool:
    """Whether the same call may go better, and may be made again without harm if it was carried out after all."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return False  # it is the request that is wrong
    return call.repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _backoff_s(attempt: int) -> float:
    """Anything up to twice as long as the time before: many clients must not come back together."""
    return random.uniform(0.1, 1) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))  # noqa: S311 - jitter


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds until the service wants to be asked again; a date is read against the answer's own Date."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value) if value.isdigit() else (parsedate_to_datetime(value) - _date(headers)).total_seconds()
    except (TypeError, ValueError):
        return None
    return max(seconds, 0.0)


def _date(headers: httpx.Headers) -> datetime:
    return parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)
