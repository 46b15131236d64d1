"""The backends behind one interface, so that one test can ask the same of all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


class Face:
    """A backend. Values are text; `ttl` is in seconds, `None` is without end."""

    #: The framework's module.
    framework: str

    def __init__(self, socket: str, **options: Any) -> None:
        self.cache = self.make(socket, options)

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        raise NotImplementedError

    @property
    def failed_reads(self) -> int:
        return self.cache.failed_reads

    @property
    def store(self) -> Any:
        return self.cache._store

    def get(self, key: str) -> Any:
        return self.cache.get(key)

    def get_many(self, keys: list[str]) -> list[Any]:
        return self.cache.get_many(*keys)

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        self.cache.set(key, value, ttl)

    def delete(self, key: str) -> Any:
        return self.cache.delete(key)

    def clear(self) -> None:
        self.cache.clear()


class Counting(Face):
    """A backend that adds and counts, too."""

    def add(self, key: str, value: str) -> bool:
        return self.cache.add(key, value)

    def incr(self, key: str, by: int = 1) -> int:
        raise NotImplementedError


class Django(Counting):
    framework = "django"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        from django.conf import settings

        if not settings.configured:
            settings.configure()
        from l1d.backends.django import L1dCache

        return L1dCache(socket, {"OPTIONS": options})

    def get_many(self, keys: list[str]) -> list[Any]:
        found = self.cache.get_many(keys)
        return [found.get(key) for key in keys]

    def incr(self, key: str, by: int = 1) -> int:
        self.cache.add(key, 0)
        return self.cache.incr(key, by)


class AsyncDjango(Django):
    """Its async methods."""

    def get(self, key: str) -> Any:
        return asyncio.run(self.cache.aget(key))

    def get_many(self, keys: list[str]) -> list[Any]:
        found = asyncio.run(self.cache.aget_many(keys))
        return [found.get(key) for key in keys]

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        asyncio.run(self.cache.aset(key, value, ttl))

    def delete(self, key: str) -> Any:
        return asyncio.run(self.cache.adelete(key))

    def add(self, key: str, value: str) -> bool:
        return asyncio.run(self.cache.aadd(key, value))

    def incr(self, key: str, by: int = 1) -> int:
        async def count() -> int:
            await self.cache.aadd(key, 0)
            return await self.cache.aincr(key, by)

        return asyncio.run(count())

    def clear(self) -> None:
        asyncio.run(self.cache.aclear())


class Cachelib(Counting):
    framework = "cachelib"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        from l1d.backends.cachelib import L1dCache

        return L1dCache(socket, key_prefix="c:", **options)

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        self.cache.set(key, value, 0 if ttl is None else ttl)

    def incr(self, key: str, by: int = 1) -> int:
        return self.cache.inc(key, by)


class FlaskCaching(Cachelib):
    framework = "flask_caching"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        import flask
        from flask_caching import Cache

        app = flask.Flask(__name__)
        app.config["CACHE_TYPE"] = "l1d.backends.flask_caching.L1dCache"
        app.config["CACHE_L1D_SOCKET"] = socket
        app.config["CACHE_OPTIONS"] = options
        cache = Cache(app)
        return app.extensions["cache"][cache]


class Dogpile(Face):
    framework = "dogpile.cache"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        from dogpile.cache import make_region

        arguments = {"socket": socket, "prefix": "d:", **options}
        self.region = make_region().configure("l1d", arguments=arguments)
        return self.region.backend

    def get(self, key: str) -> Any:
        from dogpile.cache.api import NO_VALUE

        value = self.region.get(key)
        return None if value is NO_VALUE else value

    def get_many(self, keys: list[str]) -> list[Any]:
        from dogpile.cache.api import NO_VALUE

        return [None if value is NO_VALUE else value for value in self.region.get_multi(keys)]

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        self.region.set(key, value)

    def delete(self, key: str) -> Any:
        self.region.delete(key)


class Aiocache(Counting):
    framework = "aiocache"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        from l1d.backends.aiocache import L1dCache

        own = {name: options.pop(name) for name in ("on_error", "clear") if name in options}
        return L1dCache(socket, namespace="ns", client=options, timeout=None, **own)

    def get(self, key: str) -> Any:
        return asyncio.run(self.cache.get(key))

    def get_many(self, keys: list[str]) -> list[Any]:
        return asyncio.run(self.cache.multi_get(keys))

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        asyncio.run(self.cache.set(key, value, ttl))

    def delete(self, key: str) -> Any:
        return asyncio.run(self.cache.delete(key))

    def add(self, key: str, value: str) -> bool:
        try:
            return asyncio.run(self.cache.add(key, value))
        except ValueError as error:
            assert "already exists" in str(error)
            return False

    def incr(self, key: str, by: int = 1) -> int:
        return asyncio.run(self.cache.increment(key, by))

    def clear(self) -> None:
        asyncio.run(self.cache.clear())


class FastapiCache(Face):
    framework = "fastapi_cache"

    def make(self, socket: str, options: dict[str, Any]) -> Any:
        from l1d.backends.fastapi_cache import L1dBackend

        return L1dBackend(socket, prefix="f:", **options)

    def get(self, key: str) -> Any:
        value = asyncio.run(self.cache.get(key))
        return None if value is None else value.decode()

    def get_many(self, keys: list[str]) -> list[Any]:
        return [self.get(key) for key in keys]

    def set(self, key: str, value: str, ttl: float | None = 60) -> None:
        asyncio.run(self.cache.set(key, value.encode(), ttl))

    def delete(self, key: str) -> Any:
        return asyncio.run(self.cache.clear(key=key))

    def clear(self) -> None:
        asyncio.run(self.cache.clear())


def _parameters(classes: list[type[Face]]) -> Any:
    return pytest.mark.parametrize("face", classes, ids=[face.__name__ for face in classes])


_COUNTING: list[type[Face]] = [Django, AsyncDjango, Cachelib, FlaskCaching, Aiocache]

#: Runs a test for each backend; it takes the class as `face`.
every_backend = _parameters([*_COUNTING, Dogpile, FastapiCache])
every_counting_backend = _parameters(_COUNTING)
every_clearing_backend = _parameters([*_COUNTING, FastapiCache])


def made(face: type[Face], socket: str, **options: Any) -> Any:
    """The backend, if its framework is installed; the test is skipped otherwise."""
    pytest.importorskip(face.framework)
    return face(socket, **{"deadline": 10.0, "attach_deadline": 10.0, **options})
