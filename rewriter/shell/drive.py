"""The drivers of generators, one for threads and one for tasks: each step is performed, and its result sent in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

ELSEWHERE: Any = object()
"""The result of a step after which another worker or task runs the generator."""


def drive(flow: Generator[Any, Any, T], perform: Callable[[Any], Any], first: Any = None) -> T:
    """Run a generator to its end: perform each step, and send in the result or throw in the error. It is closed in any case.

    first: the result of its first step, if that was performed already.
    If a step's result is ELSEWHERE, it is returned, and the generator is left alone.
    """
    is_here = True
    try:
        step = flow.send(first)
        while True:
            try:
                result = perform(step)
            except BaseException as error:  # noqa: BLE001  the generator handles every error of a step
                step = flow.throw(error)
                continue
            if result is ELSEWHERE:
                is_here = False
                return result  # type: ignore[no-any-return]
            step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        if is_here:
            flow.close()


async def drive_async(flow: Generator[Any, Any, T], perform: Callable[[Any], Awaitable[Any]], first: Any = None) -> T:
    """Do the same with steps that are awaited. A cancelled search closes the generator, which gives its permit back."""
    is_here = True
    try:
        step = flow.send(first)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:  # noqa: BLE001  the generator handles every error of a step
                step = flow.throw(error)
                continue
            if result is ELSEWHERE:
                is_here = False
                return result  # type: ignore[no-any-return]
            step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        if is_here:
            flow.close()
