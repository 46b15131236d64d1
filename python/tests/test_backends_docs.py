"""The examples of docs/frameworks.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "frameworks.md").read_text()
SECTIONS = dict(section.split("\n", 1) for section in re.split(r"^## ", TEXT, flags=re.M)[1:])
MODULES = {
    "Django": "django",
    "Flask-Caching": "flask_caching",
    "cachelib": "cachelib",
    "dogpile.cache": "dogpile.cache",
    "aiocache": "aiocache",
    "fastapi-cache2": "fastapi_cache",
}


@pytest.mark.parametrize("framework", MODULES)
def test_examples(framework, l1d_server):
    pytest.importorskip(MODULES[framework])
    names = {}
    if framework == "Flask-Caching":
        import flask

        names["app"] = flask.Flask(__name__)
    examples = re.findall(r"^```python\n(.*?)^```", SECTIONS[framework], re.M | re.S)
    assert examples
    for example in examples:
        exec(example.replace("/run/l1d/l1d.sock", l1d_server.socket), names)
    if framework == "Django":
        from django.core.cache.backends.base import BaseCache
        from django.utils.module_loading import import_string

        settings = names["CACHES"]["default"]
        cache = import_string(settings["BACKEND"])(settings["LOCATION"], settings)
        assert isinstance(cache, BaseCache)
        cache.set("key", "value")
        assert cache.get("key") == "value"
    elif framework == "Flask-Caching":
        import flask_caching

        cache = flask_caching.Cache(names["app"])
        with names["app"].app_context():
            cache.set("key", "value")
            assert cache.get("key") == "value"
    elif framework == "cachelib":
        names["cache"].set("key", "value")
        assert names["cache"].get("key") == "value"
    elif framework == "dogpile.cache":
        assert names["region"].get_or_create("key", lambda: "value") == "value"
    elif framework == "aiocache":
        import asyncio

        import aiocache

        async def play():
            cache = aiocache.caches.get("default")
            await cache.set("key", "value")
            assert await cache.get("key") == "value"

        asyncio.run(play())
    else:
        names["FastAPICache"].reset()


def test_every_section_on_a_framework_is_tested():
    assert set(MODULES) == set(SECTIONS) - {"What holds for all"}
