"""Coroutines that have their result already: every way of the standard library to use one."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import sys
import weakref

import pytest

from l1d._l1d import Ready, _ready

ODD = [None, b"value", (1, 2), StopIteration(3), ValueError("a value"), ValueError, [], 0]


async def awaited(coroutine):
    return await coroutine


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_its_result_is_the_value_itself(value):
    assert asyncio.run(awaited(_ready(value))) is value
    with pytest.raises(StopIteration) as ended:
        _ready(value).send(None)
    assert ended.value.value is value
    with pytest.raises(StopIteration) as ended:
        next(_ready(value).__await__())
    assert ended.value.value is value


def test_asyncio_takes_it_for_a_coroutine():
    assert asyncio.iscoroutine(_ready(1))
    assert isinstance(_ready(1), collections.abc.Coroutine)

    async def all_ways():
        assert await asyncio.create_task(_ready(1)) == 1
        assert await asyncio.gather(_ready(2), _ready(3)) == [2, 3]
        assert await asyncio.wait_for(_ready(4), 5) == 4
        assert await asyncio.shield(_ready(5)) == 5
        done, _ = await asyncio.wait([asyncio.ensure_future(_ready(6))])
        assert [task.result() for task in done] == [6]
        future = asyncio.run_coroutine_threadsafe(_ready(7), asyncio.get_running_loop())
        assert await asyncio.wrap_future(future) == 7
        cancelled = asyncio.create_task(_ready(8))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(all_ways())
    assert asyncio.run(_ready(9)) == 9


def test_under_a_tracer_too():
    """The interpreter then takes another way into it."""
    before = sys.gettrace()
    sys.settrace(lambda *_: lambda *_: None)
    try:
        assert asyncio.run(awaited(_ready((1, 2)))) == (1, 2)
    finally:
        sys.settrace(before)


def test_it_is_awaited_once():
    for spend in (lambda ready: asyncio.run(awaited(ready)), lambda ready: ready.close()):
        ready = _ready(1)
        spend(ready)
        with pytest.raises(RuntimeError, match="already awaited"):
            asyncio.run(awaited(ready))
        with pytest.raises(RuntimeError, match="already awaited"):
            ready.send(None)
        ready.close()


def test_an_exception_thrown_into_it_comes_out():
    for arguments in [(KeyError("key"),), (KeyError,), (KeyError, "key"), (KeyError, KeyError(1))]:
        ready = _ready(1)
        with pytest.raises(KeyError):
            ready.throw(*arguments)
        with pytest.raises(RuntimeError):
            ready.send(None)
    for arguments in [(), (1,), (int,), (None, None)]:
        with pytest.raises(TypeError):
            _ready(1).throw(*arguments)


def test_nobody_else_makes_one_and_nothing_is_leaked():
    with pytest.raises(TypeError):
        Ready()

    class Kept:
        pass

    kept = Kept()
    seen = weakref.ref(kept)
    kept.ready = _ready(kept)
    del kept
    gc.collect()
    assert seen() is None
    value = object()
    count = sys.getrefcount(value)
    for _ in range(1000):
        _ready(value).close()
        _ready(value)
        with pytest.raises(StopIteration):
            _ready(value).send(None)
    assert sys.getrefcount(value) == count
