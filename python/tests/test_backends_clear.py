"""Clearing hides every value, for every process, also those in the tiers, and only its own."""

from __future__ import annotations

import asyncio

import pytest
from backend_faces import Aiocache, Cachelib, Django, FastapiCache, every_clearing_backend, made

import l1d
from l1d.backends import _store
from l1d.pytest_plugin import Server


@pytest.fixture(scope="module", params=["l1", "tiers"])
def socket(request):
    """Of a daemon, without tiers and with a memcached and a redis-server."""
    config = request.getfixturevalue("tiers").config if request.param == "tiers" else ""
    with Server(config) as server:
        server.start()
        yield server.socket


@every_clearing_backend
def test_clearing_hides_all_and_does_so_for_others(face, socket):
    cache, other = made(face, socket), made(face, socket, on_error="raise")
    neighbour = l1d.Client(socket, deadline=10.0)
    neighbour.set("of another", b"value")
    for round in ("first", "second"):
        cache.set("a", round)
        cache.set("b", round)
        assert other.get("a") == round
        cache.clear()
        assert [other.get("a"), cache.get("b")] == [None, None]
        # Also after L1 has lost everything, and is asked for it again.
        other.store.client.flush()
        assert cache.get_many(["a", "b"]) == [None, None]
    cache.set("a", "third")
    assert other.get("a") == "third"
    assert neighbour.get("of another") == b"value"


@every_clearing_backend
def test_values_of_a_lost_generation_do_not_come_back(face, socket):
    cache = made(face, socket)
    cache.set("a", "old")
    cache.store.client.delete(_store.GENERATION)
    assert cache.get("a") is None
    cache.set("b", "new")
    assert [cache.get("a"), cache.get("b")] == [None, "new"]


def test_plain_names_can_be_cleared_only_without_tiers(socket):
    cache = made(Django, socket, clear="flush", prefix="plain:")
    cache.set("a", "value")
    client = l1d.Client(socket, deadline=10.0)
    assert client.get("plain::1:a") is not None
    client.set("of another", b"value")
    if client.explain("plain:")["has_tiers"]:
        with pytest.raises(l1d.Refused, match="tiers keep"):
            cache.clear()
        assert cache.get("a") == "value"
    else:
        cache.clear()
        assert cache.get("a") is None
        assert client.get("of another") == b"value"


def test_rules_decide_whether_tiers_keep_the_keys(tiers):
    rules = '[[policy]]\nprefix = "alone:"\nwrite = "l1-only"\n'
    through = '[[policy]]\nprefix = "alone:deep:"\n'
    with Server(tiers.config + rules) as server:
        server.start()
        cache = made(Django, server.socket, clear="flush", prefix="alone:")
        cache.set("a", "value")
        cache.clear()
        assert cache.get("a") is None
        server.stop()
        server.start(tiers.config + rules + through)
        with pytest.raises(l1d.Refused, match="tiers keep"):
            cache.clear()


def test_one_namespace_of_aiocache(socket):
    cache = made(Aiocache, socket).cache

    async def play():
        await cache.set("key", "own")
        await cache.set("key", "other", namespace="other")
        await cache.clear(namespace="other")
        assert await cache.get("key") == "own"
        assert await cache.get("key", namespace="other") is None
        await cache.set("key", "other", namespace="other")
        await cache.clear()
        assert await cache.get("key") is None
        assert await cache.get("key", namespace="other") is None

    asyncio.run(play())


def test_one_namespace_of_aiocache_with_a_key_builder(socket):
    def build(key, namespace=None):
        return f"{key} in {namespace}"

    made(Aiocache, socket)
    from l1d.backends.aiocache import L1dCache

    cache = L1dCache(socket, namespace="own", key_builder=build, client={"deadline": 10.0})

    async def play():
        await cache.set("key", "own", namespace="own")
        await cache.set("key", "other", namespace="other")
        await cache.clear(namespace="other")
        assert await cache.get("key", namespace="own") == "own"
        assert await cache.get("key", namespace="other") is None

    asyncio.run(play())


def test_one_namespace_of_fastapi_cache(socket):
    backend = made(FastapiCache, socket).cache

    async def play():
        for key in ("app:books:1", "app:authors:1", "app::1"):
            await backend.set(key, b"value", 60)
        assert await backend.clear(namespace="app:books") == 0
        assert await backend.get("app:books:1") is None
        assert await backend.get("app:authors:1") == b"value"
        assert await backend.clear(key="app:authors:1") == 1
        assert await backend.get("app:authors:1") is None
        assert await backend.get("app::1") == b"value"
        await backend.clear(namespace="app")
        assert await backend.get("app::1") is None
        with pytest.raises(ValueError, match="first 2 parts"):
            await backend.clear(namespace="a:b:c")

    asyncio.run(play())


def test_a_prefix_that_is_called_has_its_own_values(socket):
    pytest.importorskip("cachelib")
    from l1d.backends.cachelib import L1dCache

    tenant = "a:"
    cache = L1dCache(socket, key_prefix=lambda: tenant, deadline=10.0)
    cache.set("key", "of a")
    tenant = "b:"
    assert cache.get("key") is None
    cache.set("key", "of b")
    cache.clear()
    assert cache.get("key") is None
    tenant = "a:"
    assert cache.get("key") == "of a"


def test_a_generation_is_renewed_before_its_life_ends(l1d_server, monkeypatch):
    """Without tiers, `ttl_max` limits the life of a generation, too."""
    monkeypatch.setattr(_store, "RENEWAL_INTERVAL", 0.0)
    cache = made(Cachelib, l1d_server.socket, on_error="raise")
    cache.set("a", "value")
    client = cache.store.client
    assert client.touch(_store.GENERATION, 5)
    cache.set("b", "value")
    assert client.explain(_store.GENERATION)["in_table"]["ttl_ms"] > 10_000
