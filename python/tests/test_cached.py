"""Functions whose results are kept."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

import l1d
from l1d import aio, cached, decorator


@pytest.fixture
def cache(l1d_client):
    return l1d.Cache(l1d_client)


calls_of_add = []


def add(a, b=1, *, c=0):
    """Adds."""
    calls_of_add.append((a, b, c))
    return [a + b + c]


plain_add = add


def test_results_are_kept_by_arguments(cache):
    add, calls = cached(60, cache=cache)(plain_add), calls_of_add
    assert add(1) == [2] == add(1, 1) == add(a=1, b=1, c=0)
    assert add(1, c=5) == [7] and calls == [(1, 1, 0), (1, 1, 5)]
    assert add.__doc__ == "Adds." and add.__wrapped__(1) == [2]
    assert add.key(1) == add.key(1, b=1) != add.key("1")
    assert add.invalidate(1) and not add.invalidate(1)
    assert add(1) == [2] and len(calls) == 4
    assert len(add.key("x" * 10_000)) < 200
    with pytest.raises(TypeError, match="key="):
        add(object())


def test_keys_by_format_and_by_function(cache):
    @cached(60, key="user:{id}", cache=cache)
    def by_format(id, other=None):
        return id

    @cached(60, key=lambda user: f"user:{user['id']}", cache=cache)
    def by_function(user):
        return "never"

    assert by_format(7, other=object()) == 7
    assert by_function({"id": 7}) == 7, "the same key"
    assert "user:7" in cache


@pytest.mark.parametrize("lock", [True, False])
def test_none_is_kept_by_choice(cache, lock):
    calls = []

    @cached(60, key="stored", cache=cache, lock=lock)
    def stored():
        calls.append(1)

    @cached(60, key="skipped", cache=cache, lock=lock, none="skip")
    def skipped():
        calls.append(2)

    assert [stored(), stored(), skipped(), skipped()] == [None] * 4
    assert calls == [1, 2, 2]


def run_threads(call, count=6):
    results, begun = [], threading.Barrier(count)

    def ask():
        begun.wait()
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


def test_one_computes_and_the_others_wait(cache):
    calls = []

    @cached(60, key="slow", cache=cache)
    def slow():
        calls.append(1)
        time.sleep(0.05)
        return "done"

    assert run_threads(slow) == ["done"] * 6 and calls == [1]


def test_errors_are_shared_by_choice(cache):
    calls = []

    def fails():
        calls.append(1)
        time.sleep(0.05)
        raise LookupError("no such row")

    shared = cached(60, key="shared", cache=cache)(fails)
    results = run_threads(shared)
    assert all("no such row" in str(result) for result in results)
    assert any(isinstance(result, l1d.LoadFailed) for result in results) and len(calls) < 6
    calls.clear()
    retried = cached(60, key="retried", cache=cache, errors="retry")(fails)
    results = run_threads(retried, 3)
    assert all(type(result) is LookupError for result in results) and len(calls) == 3


def test_without_a_daemon_the_function_is_called(caplog, monkeypatch):
    monkeypatch.setattr(decorator, "_warned", {})
    gone = l1d.Cache("/nowhere/l1d.sock", lazy=True, deadline=0.05)

    @cached(60, key="k", cache=gone)
    def called():
        return 1

    @cached(60, key="k", cache=gone, unavailable="raise")
    def raises():
        return 1

    with caplog.at_level(logging.WARNING, "l1d"):
        assert [called() for _ in range(5)] == [1] * 5
    assert len(caplog.records) == 1 and "/nowhere" in caplog.text
    with pytest.raises(l1d.Unavailable):
        raises()


def test_coroutine_functions(l1d_client):
    cache, calls = aio.Cache(l1d_client), []

    @cached(60, key="slow:{n}", cache=cache)
    async def slow(n):
        calls.append(n)
        await asyncio.sleep(0.02)
        if n < 0:
            raise LookupError("no such row")
        return {"n": n}

    async def work():
        assert await asyncio.gather(*(slow(1) for _ in range(10))) == [{"n": 1}] * 10
        assert calls == [1]
        assert await slow.invalidate(1) and not await slow.invalidate(1)
        assert await slow(1) == {"n": 1} and calls == [1, 1]
        failed = await asyncio.gather(*(slow(-1) for _ in range(4)), return_exceptions=True)
        assert all("no such row" in str(error) for error in failed)
        task = asyncio.ensure_future(slow(2))
        await asyncio.sleep(0.01)
        task.cancel()
        assert await asyncio.wait_for(slow(2), 10) == {"n": 2}

    asyncio.run(work())


def test_the_hosts_cache_is_the_default(l1d_server, monkeypatch):
    monkeypatch.setattr(decorator, "_defaults", {})

    @cached(60, key="default")
    def once():
        return time.monotonic()

    @cached(60, key="default")
    async def awaited():
        return 0

    assert once() == once() == asyncio.run(awaited())


def test_wrong_use():
    with pytest.raises(TypeError, match="parentheses"):
        cached(lambda: 1)
    for wrong in ({"none": "keep"}, {"errors": "hide"}, {"unavailable": "wait"}):
        with pytest.raises(ValueError):
            cached(5, **wrong)
    with pytest.raises(TypeError, match="key"):
        cached(5, key=7)(lambda: 1)
    with pytest.raises(ValueError, match="key="):
        cached(5)(lambda: 1)
    with pytest.raises(ValueError, match="ttl"):
        cached(-5, key="k")(plain_add)
    with pytest.raises(TypeError, match="l1d.cache.Cache"):
        cached(5, key="k", cache=aio.Cache("/nowhere"))(plain_add)
