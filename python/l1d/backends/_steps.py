"""One text for the sync and the async form of an operation.

An operation is a generator. It yields functions of a client, is sent what they return, and returns
the result::

    def has(key):
        return (yield lambda client: client.get(key)) is not None
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Steps = Generator[Callable[[Any], Any], Any, T]


def run(steps: Steps[T], client: Any) -> T:
    """Runs an operation with a `l1d.Client`."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step(client)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        return done.value


async def arun(steps: Steps[T], client: Any) -> T:
    """Runs an operation with a `l1d.aio.Client`."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await step(client)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        return done.value
