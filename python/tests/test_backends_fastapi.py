"""An application with fastapi-cache2: the decorator on l1d, and several tasks at a time."""

from __future__ import annotations

import asyncio

import pytest
from backend_faces import FastapiCache, made

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture
def application(l1d_server):
    backend = made(FastapiCache, l1d_server.socket).cache
    from fastapi_cache import FastAPICache
    from fastapi_cache.decorator import cache

    FastAPICache.init(backend, prefix="app")
    app, calls = fastapi.FastAPI(), []

    @app.get("/signals/{name}")
    @cache(expire=60, namespace="signals")
    async def signals(name: str):
        calls.append(name)
        return {"name": name, "call": len(calls)}

    yield app, calls
    FastAPICache.reset()


def test_a_response_is_cached_with_its_life_until_it_is_cleared(application):
    from fastapi_cache import FastAPICache

    app, calls = application
    with testclient.TestClient(app) as client:
        first, second = client.get("/signals/BTC"), client.get("/signals/BTC")
        assert first.json() == second.json() == {"name": "BTC", "call": 1}
        assert first.headers["X-FastAPI-Cache"] == "MISS"
        assert second.headers["X-FastAPI-Cache"] == "HIT"
        assert second.headers["Cache-Control"] in ("max-age=60", "max-age=59")
        assert client.get("/signals/ETH").json()["call"] == 2
        client.portal.call(FastAPICache.clear, "signals")
        assert client.get("/signals/BTC").json()["call"] == 3
    assert calls == ["BTC", "ETH", "BTC"]


def test_many_tasks_at_a_time(l1d_server):
    backend = made(FastapiCache, l1d_server.socket).cache

    async def play():
        await asyncio.gather(*(backend.set(f"k{i}", b"%d" % i, 60) for i in range(200)))
        values = await asyncio.gather(*(backend.get(f"k{i}") for i in range(200)))
        assert values == [b"%d" % i for i in range(200)]

    asyncio.run(play())
