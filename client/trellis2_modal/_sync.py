"""Runs what is written for an event loop without one, so that the blocking classes need no second text.

A blocking class names its twin's methods, one line each; their signatures, types and descriptions come along:

    class JobHandle(Twin[AsyncJobHandle]):
        refresh = blocking(AsyncJobHandle.refresh)
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import closing
from functools import update_wrapper
from inspect import signature
from types import GenericAlias
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args

Asynchronous = TypeVar("Asynchronous")
P = ParamSpec("P")
Made = TypeVar("Made")
Shown = TypeVar("Shown")
Wrapper = TypeVar("Wrapper", bound=Callable[..., Any])


class SyncFacade(Generic[Asynchronous]):
    """A blocking thing beside its asynchronous twin, which does the work over a BlockingWire."""

    def __init__(self, twin: Asynchronous) -> None:
        self._twin = twin


def finish(coroutine: Coroutine[Any, Any, Made]) -> Made:
    """What a coroutine over a BlockingWire gives; it never suspends, so one step is all of it."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        made: Made = done.value
        return made
    coroutine.close()
    raise RuntimeError("this coroutine waits for an event loop")


def each(items: AsyncGenerator[Made, None]) -> Generator[Made, None, None]:
    """What an asynchronous generator over a BlockingWire yields; leaving early closes it, too."""
    try:
        while True:
            try:
                item = finish(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(items.aclose())


def blocking(
    method: Callable[Concatenate[Asynchronous, P], Coroutine[Any, Any, Made]],
) -> Callable[Concatenate[SyncFacade[Asynchronous], P], Made]:
    """The twin's method, waited for."""

    def waited_for(self: SyncFacade[Asynchronous], /, *args: P.args, **kwargs: P.kwargs) -> Made:
        return finish(method(self._twin, *args, **kwargs))

    return _described(waited_for, method, signature(method).return_annotation)


def blocking_as(
    show: Callable[[Made], Shown], method: Callable[Concatenate[Asynchronous, P], Coroutine[Any, Any, Made]]
) -> Callable[Concatenate[SyncFacade[Asynchronous], P], Shown]:
    """As `blocking`, for what `show` makes of what the method gives."""

    def waited_for(self: SyncFacade[Asynchronous], /, *args: P.args, **kwargs: P.kwargs) -> Shown:
        return show(finish(method(self._twin, *args, **kwargs)))

    return _described(waited_for, method, _given_by(show))


def iterating(
    method: Callable[Concatenate[Asynchronous, P], AsyncGenerator[Made, None]],
) -> Callable[Concatenate[SyncFacade[Asynchronous], P], Generator[Made, None, None]]:
    """The twin's asynchronous generator as a plain one."""

    def one_by_one(self: SyncFacade[Asynchronous], /, *args: P.args, **kwargs: P.kwargs) -> Generator[Made, None, None]:
        return each(method(self._twin, *args, **kwargs))

    item, _ = get_args(signature(method).return_annotation)
    return _described(one_by_one, method, GenericAlias(Generator, (item, None, None)))


def iterating_as(
    show: Callable[[Made], Shown], method: Callable[Concatenate[Asynchronous, P], AsyncGenerator[Made, None]]
) -> Callable[Concatenate[SyncFacade[Asynchronous], P], Generator[Shown, None, None]]:
    """As `iterating`, for what `show` makes of each item."""

    def one_by_one(
        self: SyncFacade[Asynchronous], /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[Shown, None, None]:
        with closing(each(method(self._twin, *args, **kwargs))) as items:
            yield from map(show, items)

    return _described(one_by_one, method, GenericAlias(Generator, (_given_by(show), None, None)))


def _given_by(show: Callable[..., Any]) -> Any:
    return show if isinstance(show, type) else signature(show).return_annotation


def _described(wrapper: Wrapper, method: Callable[..., Any], gives: Any) -> Wrapper:
    """The wrapper with the method's name, description and parameters, for `help`."""
    update_wrapper(wrapper, method, assigned=("__module__", "__name__", "__doc__"))
    wrapper.__signature__ = signature(method).replace(return_annotation=gives)  # type: ignore[attr-defined]
    return wrapper
