"""Values, lives and bad input of the backends."""

from __future__ import annotations

import asyncio
import datetime
import json
import pickle

import pytest
from backend_faces import (
    Aiocache,
    AsyncDjango,
    Cachelib,
    Django,
    Dogpile,
    FastapiCache,
    every_backend,
    made,
)

import l1d
from l1d.backends._store import seconds


def life(cache, key: str) -> float:
    """Seconds that a value lives in L1; 0 without one."""
    store = cache.store
    entry = store.client.explain(store.run(store.name(key)))["in_table"]
    return 0.0 if entry is None or entry["known_absent"] else entry["ttl_ms"] / 1000


DAY = 86400.0


@pytest.mark.parametrize("face", [Django, AsyncDjango])
@pytest.mark.parametrize(
    ("timeout", "least", "most"),
    [
        (None, DAY - 60, DAY),
        (100, 90, 100),
        (0.5, 0, 0.5),
        (0, 0, 0),
        (-5, 0, 0),
        (10**12, 9e4, DAY),
    ],
)
def test_timeouts_of_django(face, timeout, least, most, l1d_server):
    cache = made(face, l1d_server.socket)
    cache.set("key", "old")
    cache.set("key", "value", timeout)
    # Without tiers, ttl_max limits every life.
    assert min(least, DAY - 60) <= life(cache, ":1:key") <= most
    assert (cache.get("key") is None) == (most == 0)


def test_the_default_timeout_of_django(l1d_server):
    cache = made(Django, l1d_server.socket)
    cache.cache.set("key", "value")
    assert 290 <= life(cache, ":1:key") <= 300


@pytest.mark.parametrize(
    ("timeout", "least", "most"),
    [
        (None, 290, 300),
        (0, DAY - 60, DAY),
        (100, 90, 100),
        (datetime.timedelta(minutes=1), 50, 60),
        (-5, 0, 0),
    ],
)
def test_timeouts_of_cachelib(timeout, least, most, l1d_server):
    cache = made(Cachelib, l1d_server.socket)
    cache.cache.set("key", "value", timeout)
    assert least <= life(cache, "key") <= most


def test_seconds():
    assert seconds(None) is l1d.FOREVER
    assert seconds(1e300) is l1d.FOREVER
    assert (seconds(-1), seconds(0), seconds(1.5)) == (0, 0, 1.5)
    assert seconds(datetime.timedelta(minutes=1)) == 60


@every_backend
@pytest.mark.filterwarnings("ignore:Cache key will cause errors")  # Django's, about memcached
def test_keys_that_no_cache_could_hold_raise_in_reads_and_writes(face, l1d_server):
    cache = made(face, l1d_server.socket)
    cache.set("short", "value")
    key = "k" * 70_000
    for call in (lambda: cache.get(key), lambda: cache.set(key, "v"), lambda: cache.delete(key)):
        with pytest.raises(l1d.TooLarge):
            call()
    assert cache.failed_reads == 0


@every_backend
def test_values_that_are_too_large_raise(face, l1d_server):
    cache = made(face, l1d_server.socket)
    assert cache.get("key") is None
    with pytest.raises(l1d.TooLarge):
        cache.set("key", "v" * 10_000_000)
    assert cache.get("key") is None


class Raising:
    """A serializer that cannot."""

    def dumps(self, value):
        raise RecursionError("too deep")

    def loads(self, data):
        raise EOFError("too short")


def test_errors_of_a_serializer_are_the_callers(l1d_server):
    good = made(Django, l1d_server.socket)
    bad = made(Django, l1d_server.socket, serializer=Raising)
    good.set("key", "value")
    with pytest.raises(EOFError):
        bad.get("key")
    with pytest.raises(RecursionError):
        bad.set("key", "other")
    assert good.get("key") == "value"
    assert bad.failed_reads == 0


class Words:
    """Numbers as words: no decimals, which the daemon could count."""

    NAMES = ("zero", "one", "two", "three")

    def dumps(self, value):
        return self.NAMES[value]

    def loads(self, data):
        return self.NAMES.index(data.decode())


def test_counting_with_a_serializer_that_has_no_decimals(l1d_server):
    cache = made(Django, l1d_server.socket, serializer=Words())
    assert cache.incr("number") == 1
    assert cache.incr("number") == 2
    assert cache.cache.decr("number", 2) == 0
    store = cache.store
    assert store.client.get(store.run(store.name(":1:number"))) == b"zero"
    with pytest.raises(ValueError, match="not found"):
        cache.cache.incr("nothing")


def test_counting_keeps_the_life_of_a_number(l1d_server):
    cache = made(Django, l1d_server.socket)
    cache.set("number", 5, 1000)
    assert cache.cache.incr("number", 2) == 7
    assert 990 <= life(cache, ":1:number") <= 1000


def test_counting_beyond_64_bits(l1d_server):
    cache = made(Django, l1d_server.socket)
    cache.set("number", 2**63 - 1)
    assert cache.incr("number") == 2**63
    assert cache.incr("number", 2**70) == 2**63 + 2**70


class Json:
    """As those of cachelib, it returns nothing for what it cannot serialize."""

    loads = staticmethod(json.loads)

    def dumps(self, value):
        try:
            return json.dumps(value).encode()
        except TypeError:
            return None


def test_cachelib_takes_another_serializer(l1d_server):
    cache = made(Cachelib, l1d_server.socket)
    cache.cache.serializer = Json()
    cache.set("key", ["a", 1])
    store = cache.store
    assert json.loads(store.client.get(store.run(store.name("key")))) == ["a", 1]
    assert cache.cache.set("key", {1, 2}) is False
    assert cache.cache.add("other", {1, 2}) is False
    assert cache.cache.set_many({"a": 1, "b": {1, 2}}) == ["a"]
    assert cache.get_many(["key", "other", "a", "b"]) == [["a", 1], None, 1, None]


def test_aiocache_takes_its_serializers(l1d_server):
    serializers = pytest.importorskip("aiocache.serializers")
    cache = made(Aiocache, l1d_server.socket)
    cache.cache.serializer = serializers.PickleSerializer()
    cache.set("key", {1, 2})
    assert cache.get("key") == {1, 2}
    store = cache.store
    name = store.run(store.name("ns:key", ("ns",)))
    assert pickle.loads(store.client.get(name)) == {1, 2}


def test_lives_of_aiocache(l1d_server):
    cache = made(Aiocache, l1d_server.socket)
    for ttl in (None, 0):
        cache.set("key", "value", ttl)
        assert cache.get("key") == "value"
    with pytest.raises(ValueError, match="negative"):
        cache.set("key", "value", -1)


def test_the_ends_of_fastapi_cache(l1d_server):
    cache = made(FastapiCache, l1d_server.socket)

    def found(key):
        return asyncio.run(cache.cache.get_with_ttl(key))

    assert found("key") == (0, None)
    cache.set("key", "value", 60)
    assert found("key") in [(60, b"value"), (59, b"value")]
    cache.set("key", "value", None)
    assert found("key") == (-1, b"value")
    cache.set("key", "value", 0)
    assert found("key") == (0, None)


def test_dogpile_drops_values_when_told_to(l1d_server):
    cache = made(Dogpile, l1d_server.socket, l1d_expiration_time=100)
    cache.set("key", "value")
    assert 90 <= life(cache, "key") <= 100
