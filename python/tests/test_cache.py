"""Objects over the client."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import weakref
from dataclasses import dataclass
from types import MappingProxyType

import pytest

import l1d
from l1d import serializers


@pytest.fixture
def cache(l1d_client):
    return l1d.Cache(l1d_client)


VALUES = [None, True, 1, -(2**70), 1.5, "é", [], [1, [2]], {"a": {"b": [None]}}, ""]


@pytest.mark.parametrize("name", ["json", "orjson", "msgpack", "pickle", "pymemcache", "pylibmc"])
@pytest.mark.parametrize("memo", [0, 100])
def test_objects_come_back(l1d_server, name, memo):
    os.chmod(l1d_server.directory, 0o700)
    serializer = name
    if name.startswith("py"):
        serializer = serializers.NAMES[name](pickles=True)
    cache = l1d.Cache(l1d_server.client(), serializer=serializer, memo=memo)
    for value in VALUES:
        if (
            name in ("orjson", "msgpack")
            and value == -(2**70)
            or name == "pylibmc"
            and value is True
        ):
            continue
        assert cache.set("k", value)
        for _ in range(2):
            found = cache.get("k", "default")
            assert found == value and type(found) is type(value)
            assert cache.peek("k", "default") == value == cache.get_meta("k").value
            assert cache.get_many(["k", "none"], "?") == [value, "?"]
            assert cache.get_dict(["k", "none"]) == {"k": value} and cache["k"] == value
    assert cache.get("none") is None and cache.get("none", 5) == 5
    assert cache.peek("none", 5) == 5 and "none" not in cache
    with pytest.raises(KeyError):
        cache["none"]


def test_the_same_verbs(cache):
    assert cache.add("k", [1]) and cache.add("k", [2]) is None
    assert cache.replace("k", [3]) and cache.replace("none", 1) is None
    token = cache.get_meta("k").token
    assert cache.cas("k", token, [4]) and cache.cas("k", token, [5]) is None
    assert cache.get("k") == [4]
    assert cache.incr("n", initial=5) == 5 and cache.incr("n") == 6 and cache.decr("n") == 5
    assert cache.get("n") == 5, "a counter reads as JSON"
    assert cache.touch("k", 60) and cache.get_and_touch("k", 60) == [4]
    assert cache.get_and_touch("none", 60) is None
    assert cache.get_or_load("l", lambda: {"a": 1}, 60) == {"a": 1}
    assert cache.get_or_load("l", lambda: 1 / 0) == {"a": 1}
    cache.set_many({"m": 1, "o": [2]})
    assert cache.get_many(["m", "o"]) == [1, [2]] and cache.delete_many(["m", "o", "none"]) == 2
    assert not cache.delete_if("k", token) and cache.delete("k")
    assert cache.explain("k")["key"] and cache.stats()["daemon"]["pid"]
    cache.set("f", 1)
    cache.flush()
    assert "f" not in cache


class Broken:
    def dumps(self, value):
        raise OverflowError("cannot write")

    def loads(self, data, flags):
        raise OverflowError("cannot read")


@pytest.mark.parametrize("memo", [0, 10])
def test_a_serializer_that_raises(l1d_client, memo):
    broken = l1d.Cache(l1d_client, serializer=Broken(), memo=memo)
    l1d_client.set("k", b"x")
    for call in (
        lambda: broken.get("k"),
        lambda: broken.peek("k"),
        lambda: broken.get_many(["k"]),
        lambda: broken.set("k", 1),
        lambda: broken.set_many({"k": 1}),
        lambda: broken.get_or_load("new", lambda: 1),
    ):
        for _ in range(3):
            with pytest.raises(OverflowError):
                call()
    assert l1d_client.get("k") == b"x"
    assert l1d_client.get_or_load("new", lambda: b"1", wait=5) == b"1", "nobody holds the key"


def test_what_is_no_serializer(l1d_client):
    for wrong, error in (("yaml", ValueError), (5, TypeError), (object(), TypeError)):
        with pytest.raises(error, match="serializer"):
            l1d.Cache(l1d_client, serializer=wrong)
    with pytest.raises(ValueError, match="share"):
        l1d.Cache(l1d_client, share="yes")
    with pytest.raises(TypeError):
        l1d.Cache(l1d_client, deadline=1.0)


WRITER = "import l1d, sys; l1d.Cache().set(sys.argv[1], eval(sys.argv[2]))"


@pytest.mark.parametrize("share", [True, False, "frozen"])
def test_a_kept_object_is_never_older_than_what_another_process_wrote(l1d_server, share):
    cache = l1d.Cache(l1d_server.client(), memo=10, share=share)
    for value in ("one", "two", "three"):
        subprocess.run([sys.executable, "-c", WRITER, "k", repr(value)], check=True)
        assert cache.get("k") == value and cache.get("k") is cache.get("k")
    cache.delete("k")
    assert cache.get("k") is None and cache.peek("k") is None


def test_callers_cannot_change_each_others_results(l1d_client):
    value = {"list": [1, 2], "text": "x"}
    for share, is_same in ((False, False), ("frozen", True), (True, True)):
        cache = l1d.Cache(l1d_client, memo=10, share=share)
        cache.set("k", value)
        first, second = cache.get("k"), cache.get("k")
        assert (first is second) is is_same
        if share is False:
            first["list"].append(3)
            assert cache.get("k") == value
        if share == "frozen":
            assert isinstance(first, MappingProxyType) and first["list"] == (1, 2)
            with pytest.raises(TypeError):
                first["new"] = 1
            assert type(l1d.Cache(l1d_client, share="frozen").get("k")) is MappingProxyType
    # What nobody can change is shared whatever `share` says.
    cache = l1d.Cache(l1d_client, memo=10)
    cache.set("k", "text")
    assert cache.get("k") is cache.get("k")


def test_a_memo_forgets_beyond_its_size(l1d_client):
    cache = l1d.Cache(l1d_client, memo=10, share=True)
    for number in range(200):
        cache.set(f"k{number}", [number])
    assert all(cache.get(f"k{number}") == [number] for number in range(200))


@pytest.mark.parametrize("memo", [0, 10])
def test_a_cache_that_nobody_has_is_gone(l1d_client, memo):
    kinds = (l1d.Cache, l1d.aio.Cache)
    gone = [weakref.ref(kind(l1d_client, memo=memo)) for kind in kinds]
    gc.collect()
    assert [found() for found in gone] == [None, None]


def test_a_subclass_has_its_own_get(l1d_client):
    class Own(l1d.Cache):
        def get(self, key, default=None):
            return "own" if key == "k" else super().get(key, default)

    cache = Own(l1d_client, memo=10)
    cache.set("other", "value")
    assert cache.get("k") == "own" and cache.get("other") == "value"
    assert l1d.Cache(l1d_client, memo=10).get("none", default=3) == 3


def test_all_of_many_are_tried_whatever_their_flags(l1d_client):
    cache = l1d.Cache(l1d_client, serializer="pymemcache")
    with pytest.raises(l1d.SomeFailed) as failed:
        cache.set_many([("huge", bytes(2 << 20)), ("text", "x"), ("number", 7), ("text", b"last")])
    assert set(failed.value.errors) == {"huge"} and failed.value.of == 3
    assert cache.get_many(["text", "number"]) == [b"last", 7]


def test_a_ttl_is_checked_before_the_loader_runs(l1d_client):
    calls = []
    with pytest.raises(ValueError) as raised:
        l1d.Cache(l1d_client).get_or_load("k", lambda: calls.append(1), -1)
    assert not calls and raised.value
    assert l1d_client.get_or_load("k", lambda: b"1", wait=5) == b"1"


def test_pickling_keeps_the_settings(l1d_client):
    cache = l1d.Cache(l1d_client, prefix="p:", memo=5, share=True)
    cache.set("k", [1])
    again = pickle.loads(pickle.dumps(cache))
    assert again.get("k") == [1] and again.get("k") is again.get("k")


@dataclass
class Run:
    """What a hostile writer leaves: unpickling it would create a file."""

    path: str

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_only_where_every_writer_is_this_user(l1d_server, tmp_path):
    client = l1d_server.client()
    trap = tmp_path / "trap"
    client.set("k", pickle.dumps(Run(str(trap))))
    os.chmod(l1d_server.directory, 0o755)
    os.chmod(l1d_server.socket, 0o660)
    for options in ({}, {"trust_tiers": True}, {"memo": 5}):
        cache = l1d.Cache(client, serializer="pickle", **options)
        for read in (cache.get, cache.peek, cache.get_meta, lambda key: cache.get_many([key])):
            with pytest.raises(l1d.Untrusted, match="0600 or 0700"):
                read("k")
    assert not trap.exists()
    os.chmod(l1d_server.socket, 0o600)
    cache = l1d.Cache(client, serializer="pickle")
    cache.set("fine", {1, 2})
    assert cache.get("fine") == {1, 2}
    # What held for one call need not hold for the next.
    os.chmod(l1d_server.socket, 0o666)
    with pytest.raises(l1d.Untrusted):
        cache.get("k")
    asynchronous = l1d.aio.Cache(client, serializer="pickle")
    assert asynchronous.peek("k", "?") == "?"
    with pytest.raises(l1d.Untrusted):
        asyncio.run(asynchronous.get("k"))
    assert not trap.exists()


def test_pickle_over_tiers_takes_a_word(l1d_server_factory, tiers):
    with l1d_server_factory(tiers.config) as server:
        os.chmod(server.socket, 0o600)
        cache = l1d.Cache(server.client(), serializer="pickle")
        cache.set("pickled", {1})
        with pytest.raises(l1d.Untrusted, match="trust_tiers=True"):
            cache.get("pickled")
        trusting = l1d.Cache(server.client(), serializer="pickle", trust_tiers=True)
        assert trusting.get("pickled") == {1}


@pytest.mark.parametrize("library", ["pymemcache", "pylibmc"])
def test_values_of_memcached_clients_are_read_with_their_flags(l1d_server_factory, tiers, library):
    values = {"b": b"bytes", "t": "text é", "i": 7, "n": -3, "l": [1, "x"], "big": "z" * 5000}
    if library == "pymemcache":
        pymemcache = pytest.importorskip("pymemcache")
        serde = pymemcache.serde.compressed_serde
        other = pymemcache.Client(("127.0.0.1", tiers.memcached), serde=serde)
        write, read = (lambda k, v: other.set(k, v, noreply=False)), other.get
    else:
        pylibmc = pytest.importorskip("pylibmc")
        other = pylibmc.Client([f"127.0.0.1:{tiers.memcached}"])
        write, read = (lambda k, v: other.set(k, v, min_compress_len=100)), other.get
    config = f'[l2]\naddress = "127.0.0.1:{tiers.memcached}"\n'
    with l1d_server_factory(config) as server:
        os.chmod(server.socket, 0o600)
        serializer = serializers.NAMES[library](pickles=True)
        cache = l1d.Cache(server.client(), serializer=serializer, trust_tiers=True)
        for key, value in values.items():
            write(f"{library}:{key}", value)
            found = cache.get(f"{library}:{key}")
            assert found == value and type(found) is type(value)
            cache.set(f"{library}:{key}", value)
            assert read(f"{library}:{key}") == value, "and the other way round"
        plain = l1d.Cache(server.client(), serializer=library)
        with pytest.raises(ValueError, match="pickles=True"):
            plain.get(f"{library}:l")
        with pytest.raises(TypeError, match="pickles=True"):
            plain.set("k", [1])
