"""The adapters that take the settings of a cache in each process."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest
import tomllib

import l1d
from l1d.adapters import DirectCacheAdapter, MultiTierCacheAdapter, PolicyDiffers, PolicyWarning

PREFIXES = {"analysis:", "market:"}
SHARED = '[[policy]]\nprefix = "analysis:"\n[[policy]]\nprefix = "market:"\n'


def adapter(server, **settings):
    return MultiTierCacheAdapter(server.client(), cross_process_prefixes=PREFIXES, **settings)


@pytest.mark.parametrize("l1d_config", [SHARED])
def test_what_one_process_writes_is_the_next_read_of_any_other(l1d_server):
    cache = adapter(l1d_server)
    writer = (
        "import asyncio, sys; from l1d.adapters import MultiTierCacheAdapter as A;"
        "a = A(cross_process_prefixes={'analysis:', 'market:'});"
        "asyncio.run(a.set('analysis:signals', sys.argv[1]))"
    )

    async def read():
        return await cache.get("analysis:signals")

    for value in ("one", "two", "three"):
        asyncio.run(read())
        subprocess.run([sys.executable, "-c", writer, value], check=True)
        assert asyncio.run(read()) == value


def test_missing_rules_are_told_as_toml(l1d_server, caplog):
    cache = adapter(l1d_server, cross_process_l1_ttl=2.0, l1_ttl=30)
    with pytest.raises(PolicyDiffers) as raised:
        asyncio.run(cache.get("analysis:signals"))
    rules = tomllib.loads(raised.value.toml)
    assert rules["policy"] == [
        {"prefix": "analysis:", "scope": "host", "ttl": "2000ms"},
        {"prefix": "market:", "scope": "host", "ttl": "2000ms"},
    ]
    assert "policy reload" in str(raised.value)
    with pytest.raises(PolicyDiffers):
        asyncio.run(cache.set("k", 1))
    # Put into the configuration, they are what the adapter asked for.
    l1d_server.stop()
    l1d_server.start(cache.policy_toml)
    assert asyncio.run(cache.set("analysis:signals", [1]))
    assert asyncio.run(cache.get("analysis:signals")) == [1]
    # Another ttl differs.
    other = adapter(l1d_server, cross_process_l1_ttl=3.0, on_policy_mismatch="warn")
    with pytest.warns(PolicyWarning, match="3000ms"):
        assert asyncio.run(other.get("analysis:signals")) == [1]
    ignoring = adapter(l1d_server, cross_process_l1_ttl=3.0, on_policy_mismatch="ignore")
    assert asyncio.run(ignoring.get("analysis:signals")) == [1]


def test_without_the_mode_each_process_has_copies_of_its_own(l1d_server):
    cache = adapter(l1d_server, cross_process_mode=False)
    rules = tomllib.loads(cache.policy_toml)["policy"]
    assert rules[0] == {"prefix": "analysis:", "scope": "process", "ttl": "2000ms"}
    l1d_server.stop()
    l1d_server.start(cache.policy_toml)
    asyncio.run(cache.set("analysis:signals", 1))
    assert cache.cache.client.sync.lookup("analysis:signals").source == "process"


@pytest.mark.parametrize("l1d_config", [SHARED])
def test_log_lines(l1d_server, caplog):
    async def work():
        cache = adapter(l1d_server)
        await cache.set("market:overview", {"BTC": 1})
        await cache.get("market:overview")
        await cache.get("market:none")
        await cache.get("other")
        await cache.delete("market:overview")

    with caplog.at_level(logging.DEBUG, "l1d.adapters"):
        asyncio.run(work())
    assert [record.getMessage() for record in caplog.records] == [
        "MULTI-TIER SET (cross-process): market:overview",
        "L1 HIT for cross-process key: market:overview",
        "L1 MISS for cross-process key: market:none, MISS in all tiers",
        "L1 MISS: other, MISS in all tiers",
        "MULTI-TIER DELETE (cross-process): market:overview",
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, "l1d.adapters"):
        asyncio.run(work())
    assert not caplog.records


def test_shares_of_the_tiers(l1d_server_factory, tiers):
    async def work(server):
        cache = DirectCacheAdapter(server.client(), default_ttl=60)
        await cache.set("shares:a", 1)
        for _ in range(10):
            assert await cache.get("shares:a") == 1
        cache.cache.client.sync.flush("shares:")
        assert await cache.get("shares:a") == 1
        assert await cache.get("shares:none", "?") == "?"
        await cache.set("shares:b", 2)
        stats = await cache.stats()
        assert stats["this_process"] == {"reads": 12, "l1_hits": 10}
        assert stats["l3"]["hits"] + stats["l2"]["hits"] == 1 and stats["misses"] == 1
        shares = [stats[tier]["share"] for tier in ("l1", "l2", "l3")]
        assert all(0 <= share <= 1 for share in shares) and sum(shares) < 1
        assert await cache.delete("shares:a") and not await cache.delete("shares:a")

    with l1d_server_factory(tiers.config) as server:
        asyncio.run(work(server))


def test_a_failed_write_raises():
    cache = DirectCacheAdapter("/nowhere/l1d.sock", deadline=0.05)
    for call in (cache.set("k", 1), cache.delete("k"), cache.get("k")):
        with pytest.raises(l1d.Unavailable):
            asyncio.run(call)


def test_wrong_settings(l1d_server):
    for settings, error in (
        ({"cross_process_prefixes": "analysis:"}, TypeError),
        ({"on_policy_mismatch": "shrug"}, ValueError),
        ({"cross_process_l1_ttl": 0}, ValueError),
        ({"l1_ttl": -1}, ValueError),
    ):
        with pytest.raises(error):
            MultiTierCacheAdapter(l1d_server.client(), **settings)
