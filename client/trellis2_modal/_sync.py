"""Runs coroutines without an event loop, so that the blocking classes need no code of their own.

A blocking class lists the methods of its async class, one line each; signatures, types and docstrings are copied:

    class JobHandle(SyncFacade[AsyncJobHandle]):
        refresh = sync_method(AsyncJobHandle.refresh)
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import closing
from functools import update_wrapper
from inspect import signature
from types import GenericAlias
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args

Async = TypeVar("Async")
P = ParamSpec("P")
Result = TypeVar("Result")
Converted = TypeVar("Converted")
Wrapper = TypeVar("Wrapper", bound=Callable[..., Any])


class SyncFacade(Generic[Async]):
    """A blocking object that delegates to an async object over a SyncTransport."""

    def __init__(self, wrapped: Async) -> None:
        self._async = wrapped


def run_sync(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine over a SyncTransport. It never suspends, so one step runs all of it.

    Raises:
        RuntimeError: it did suspend.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    coroutine.close()
    raise RuntimeError("this coroutine waits for an event loop")


def iterate_sync(items: AsyncGenerator[Result, None]) -> Generator[Result, None, None]:
    """Iterate over an async generator over a SyncTransport; leaving the loop early closes it as well."""
    try:
        while True:
            try:
                item = run_sync(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_sync(items.aclose())


def sync_method(
    method: Callable[Concatenate[Async, P], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SyncFacade[Async], P], Result]:
    """Make the blocking method of an async one."""

    def call(self: SyncFacade[Async], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return run_sync(method(self._async, *args, **kwargs))

    return _copy_signature(call, method, signature(method).return_annotation)


def sync_method_as(
    convert: Callable[[Result], Converted], method: Callable[Concatenate[Async, P], Coroutine[Any, Any, Result]]
) -> Callable[Concatenate[SyncFacade[Async], P], Converted]:
    """Make the blocking method of an async one, and convert its result."""

    def call(self: SyncFacade[Async], /, *args: P.args, **kwargs: P.kwargs) -> Converted:
        return convert(run_sync(method(self._async, *args, **kwargs)))

    return _copy_signature(call, method, _return_type(convert))


def sync_iterator(
    method: Callable[Concatenate[Async, P], AsyncGenerator[Result, None]],
) -> Callable[Concatenate[SyncFacade[Async], P], Generator[Result, None, None]]:
    """Make the plain generator of an async one."""

    def call(self: SyncFacade[Async], /, *args: P.args, **kwargs: P.kwargs) -> Generator[Result, None, None]:
        return iterate_sync(method(self._async, *args, **kwargs))

    item, _ = get_args(signature(method).return_annotation)
    return _copy_signature(call, method, GenericAlias(Generator, (item, None, None)))


def sync_iterator_as(
    convert: Callable[[Result], Converted], method: Callable[Concatenate[Async, P], AsyncGenerator[Result, None]]
) -> Callable[Concatenate[SyncFacade[Async], P], Generator[Converted, None, None]]:
    """Make the plain generator of an async one, and convert its items."""

    def call(self: SyncFacade[Async], /, *args: P.args, **kwargs: P.kwargs) -> Generator[Converted, None, None]:
        with closing(iterate_sync(method(self._async, *args, **kwargs))) as items:
            yield from map(convert, items)

    return _copy_signature(call, method, GenericAlias(Generator, (_return_type(convert), None, None)))


def _return_type(convert: Callable[..., Any]) -> Any:
    return convert if isinstance(convert, type) else signature(convert).return_annotation


def _copy_signature(wrapper: Wrapper, method: Callable[..., Any], result: Any) -> Wrapper:
    """Give the wrapper the method's name, docstring and parameters, for `help` and editors."""
    update_wrapper(wrapper, method, assigned=("__module__", "__name__", "__doc__"))
    wrapper.__signature__ = signature(method).replace(return_annotation=result)  # type: ignore[attr-defined]
    return wrapper
