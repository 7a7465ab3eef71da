"""One way to the service: credentials, retries, and errors by name."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from trellis2_modal.errors import ApiError, NotReachable, UrlInvalid, api_error

Read = TypeVar("Read")

TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0

# The answer says that the request was not carried out, or it may be carried out again without harm.
_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
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


class Connection:
    """Sends calls; tries again on lost connections and on 429, 502, 503 and 504, with backoff, jitter and Retry-After.

    Credentials go to the service's own origin and nowhere else: a signed URL of a store carries its own.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        transport: httpx.BaseTransport | None,
        pause: Callable[[float], None],
        tries: int,
    ) -> None:
        self._base = _service_url(base_url)
        self._headers = dict(headers)
        self._http = httpx.Client(
            transport=transport,
            headers={"User-Agent": "trellis2-modal"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )
        self._pause = pause
        self._tries = tries

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def send(self, call: Call) -> httpx.Response:
        """Send a call until it is answered whole; answers below 400 are returned.

        Raises:
            NotReachable: no try was answered.
            ApiError: the service answered with a problem.
        """
        return self._answered(call, read_whole=True)

    def ask(self, call: Call, read: Callable[[Any], Read]) -> Read:
        """As `send`, for what `read` makes of the answer's JSON; an answer that it cannot read is not the service's."""
        response = self.send(call)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError) as error:
            raise NotReachable(f"what answers at {self._base} is not the service") from error

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """As `send`, with the body still to be read; errors while reading it are httpx's own."""
        response = self._answered(call, read_whole=False)
        try:
            yield response
        finally:
            response.close()

    def _answered(self, call: Call, *, read_whole: bool) -> httpx.Response:
        for attempt in range(1, self._tries + 1):
            is_last = attempt == self._tries
            try:
                response = self._once(call)
                if read_whole and response.status_code < 400:
                    response.read()
            except httpx.RequestError as error:
                if is_last or not _may_repeat(call, error):
                    raise NotReachable(f"{self._base} does not answer: {error or type(error).__name__}") from error
                self._pause(_backoff_s(attempt))
                continue
            if response.status_code < 400:
                return response
            passing = response.status_code in _PASSING and (call.repeatable or response.status_code == 429)
            if is_last or not passing:
                raise _problem(response)
            response.close()
            self._pause(max(_backoff_s(attempt), _retry_after_s(response.headers)))
        raise AssertionError("unreachable")

    def _once(self, call: Call) -> httpx.Response:
        url = self._base.join(call.path)
        is_ours = (url.scheme, url.host, url.port) == (self._base.scheme, self._base.host, self._base.port)
        with call.content() as content:
            request = self._http.build_request(
                call.method,
                url.copy_merge_params(call.query) if call.query else url,
                headers={**(self._headers if is_ours else {}), **call.headers},
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=call.read_timeout_s),
                **content,
            )
            return self._http.send(request, stream=True)


def json_content(body: Mapping[str, Any]) -> Callable[[], AbstractContextManager[Mapping[str, Any]]]:
    """A JSON body for a Call."""
    return lambda: nullcontext({"json": body})


def _service_url(text: str) -> httpx.URL:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(text.rstrip("/") + "/")
        if url.scheme in ("http", "https") and url.host:
            return url
    raise UrlInvalid(f"{text!r} is not an http or https URL")


def _may_repeat(call: Call, error: httpx.RequestError) -> bool:
    """Whether the same call may go better, and may be made again without harm if it was carried out after all."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return False  # it is the request that is wrong
    return call.repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _backoff_s(attempt: int) -> float:
    """Anything up to twice as long as the time before: many clients must not come back together."""
    return random.uniform(0.1, 1) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))  # noqa: S311 - jitter


def _retry_after_s(headers: httpx.Headers) -> float:
    """Seconds until the service wants to be asked again; a date is read against the answer's own Date."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value) if value.isdigit() else (parsedate_to_datetime(value) - _date(headers)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def _date(headers: httpx.Headers) -> datetime:
    return parsedate_to_datetime(headers["Date"]) if "Date" in headers else datetime.now(UTC)


def _problem(response: httpx.Response) -> ApiError:
    """The error that an answer stands for, whoever gave it: a proxy in between writes HTML."""
    try:
        response.read()
        body = response.json()
    except (httpx.TransportError, ValueError):
        body = {}
    finally:
        response.close()
    return api_error(response.status_code, body if isinstance(body, dict) else {})
