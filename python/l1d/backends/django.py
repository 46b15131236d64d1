"""A cache backend of Django::

    CACHES = {
        "default": {
            "BACKEND": "l1d.backends.django.L1dCache",
            "LOCATION": "/run/l1d/l1d.sock",  # or "": where the daemon usually is
        }
    }

OPTIONS, all optional: ``prefix`` ("django:"), ``serializer`` (as for Django's Redis backend, and
like there pickle by default), ``on_error`` ("miss" or "raise"), ``clear`` ("generation" or
"flush"), and those of `l1d.Client`, as ``deadline`` in seconds.

Whoever may connect to the daemon, or write to its tiers, can store a pickle that runs code in this
process. Where that is more than this application, choose another serializer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.redis import RedisSerializer
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.module_loading import import_string

import l1d

from ._codec import Codec
from ._steps import Steps
from ._store import seconds, shared

__all__ = ["L1dCache"]


class L1dCache(BaseCache):  # type: ignore[misc]  # Django has no types.
    """The cache of Django, sync and async, on l1d.

    A read that fails is a miss, unless ``on_error`` is "raise"; `failed_reads` counts them. A write
    that fails raises, because the old value remains visible.
    """

    def __init__(self, location: str, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        options = dict(params.get("OPTIONS", {}))
        for of_other_backends in ("MAX_ENTRIES", "CULL_FREQUENCY"):
            options.pop(of_other_backends, None)
        self._codec = Codec(_serializer(options.pop("serializer", None)))
        options.setdefault("prefix", "django:")
        self._store = shared(socket=location or None, **options)

    @property
    def failed_reads(self) -> int:
        """How many reads of this process failed and were answered as misses."""
        return self._store.reads.count

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> Any:
        """The life in seconds; 0 for what is not to be cached."""
        return seconds(self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        key = self.make_and_validate_key(key, version=version)
        data = self._store.peek(key)
        if data is None:
            data = self._store.run(self._store.get(key))
        return default if data is None else self._codec.loads(data)

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        key = self.make_and_validate_key(key, version=version)
        data = self._store.peek(key)
        if data is None:
            data = await self._store.arun(self._store.get(key))
        return default if data is None else self._codec.loads(data)

    def has_key(self, key: str, version: int | None = None) -> bool:
        return self._store.run(self._has_key(key, version))

    async def ahas_key(self, key: str, version: int | None = None) -> bool:
        return await self._store.arun(self._has_key(key, version))

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        data = self._codec.dumps(value)
        self._store.run(self._set(key, data, timeout, version))

    async def aset(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        data = await self._adumps(value)
        await self._store.arun(self._set(key, data, timeout, version))

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        data = self._codec.dumps(value)
        return self._store.run(self._add(key, data, timeout, version))

    async def aadd(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        data = await self._adumps(value)
        return await self._store.arun(self._add(key, data, timeout, version))

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._store.run(self._touch(key, timeout, version))

    async def atouch(
        self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        return await self._store.arun(self._touch(key, timeout, version))

    def delete(self, key: str, version: int | None = None) -> bool:
        return self._store.run(self._delete(key, version))

    async def adelete(self, key: str, version: int | None = None) -> bool:
        return await self._store.arun(self._delete(key, version))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        return self._store.run(self._incr(key, delta, version))

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        return await self._store.arun(self._incr(key, delta, version))

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        return self._store.run(self._get_many(keys, version))

    async def aget_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        return await self._store.arun(self._get_many(keys, version))

    def set_many(
        self,
        data: Mapping[str, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[str]:
        dumped = {key: self._codec.dumps(value) for key, value in data.items()}
        return self._store.run(self._set_many(dumped, timeout, version))

    async def aset_many(
        self,
        data: Mapping[str, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[str]:
        dumped = {key: await self._adumps(value) for key, value in data.items()}
        return await self._store.arun(self._set_many(dumped, timeout, version))

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        self._store.run(self._delete_many(keys, version))

    async def adelete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        await self._store.arun(self._delete_many(keys, version))

    def get_or_set(
        self, key: str, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """The cached value, or `default`, which is stored, and called first if it can be: by one
        process of the host, for which the others wait."""
        loading = _Loading(default)

        def load() -> bytes:
            return self._codec.dumps(loading.value())

        return self._store.run(self._get_or_set(key, loading, load, timeout, version))

    async def aget_or_set(
        self, key: str, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """See `get_or_set`."""
        loading = _Loading(default)

        async def load() -> bytes:
            return await self._adumps(loading.value())

        return await self._store.arun(self._get_or_set(key, loading, load, timeout, version))

    def clear(self) -> None:
        """Hides all values below the prefix, in L1 and in the tiers."""
        self._store.run(self._store.clear())

    async def aclear(self) -> None:
        """See `clear`."""
        await self._store.arun(self._store.clear())

    # The operations, in steps.

    def _name(self, key: str, version: int | None) -> Steps[str]:
        return self._store.name(self.make_and_validate_key(key, version=version))

    def _has_key(self, key: str, version: int | None) -> Steps[bool]:
        key = self.make_and_validate_key(key, version=version)
        return (yield from self._store.get(key)) is not None

    def _set(self, key: str, data: bytes, timeout: Any, version: int | None) -> Steps[None]:
        name = yield from self._name(key, version)
        ttl = self.get_backend_timeout(timeout)
        yield lambda client: client.set(name, data, ttl)

    def _add(self, key: str, data: bytes, timeout: Any, version: int | None) -> Steps[bool]:
        name = yield from self._name(key, version)
        return (yield from self._store.add(name, data, self.get_backend_timeout(timeout)))

    def _touch(self, key: str, timeout: Any, version: int | None) -> Steps[bool]:
        name = yield from self._name(key, version)
        return (yield from self._store.touch(name, self.get_backend_timeout(timeout)))

    def _delete(self, key: str, version: int | None) -> Steps[bool]:
        name = yield from self._name(key, version)
        return bool((yield lambda client: client.delete(name)))

    def _incr(self, key: str, delta: Any, version: int | None) -> Steps[Any]:
        name = yield from self._name(key, version)
        ttl = self.get_backend_timeout()
        number = yield from self._store.count(name, delta, self._codec, ttl)
        if number is None:
            raise ValueError(f"Key '{key}' not found")
        return number

    def _get_many(self, keys: Iterable[str], version: int | None) -> Steps[dict[str, Any]]:
        made = {key: self.make_and_validate_key(key, version=version) for key in keys}
        values = yield from self._store.get_many(list(made.values()))
        loads = self._codec.loads
        return {key: loads(data) for key, data in zip(made, values) if data is not None}

    def _set_many(
        self, data: Mapping[str, bytes], timeout: Any, version: int | None
    ) -> Steps[list[str]]:
        if data:
            names = yield from self._names(data, version)
            ttl = self.get_backend_timeout(timeout)
            items = dict(zip(names, data.values()))
            yield lambda client: client.set_many(items, ttl)
        return []

    def _delete_many(self, keys: Iterable[str], version: int | None) -> Steps[None]:
        names = yield from self._names(keys, version)
        if names:
            yield lambda client: client.delete_many(names)

    def _names(self, keys: Iterable[str], version: int | None) -> Steps[list[str]]:
        made = [self.make_and_validate_key(key, version=version) for key in keys]
        return self._store.names(made)

    def _get_or_set(
        self,
        key: str,
        loading: _Loading,
        load: Callable[[], Any],
        timeout: Any,
        version: int | None,
    ) -> Steps[Any]:
        key = self.make_and_validate_key(key, version=version)
        ttl = self.get_backend_timeout(timeout)
        data = yield from self._store.get(key)
        if data is not None:
            return self._codec.loads(data)
        if ttl == 0:
            return loading.value()
        try:
            name = yield from self._store.name(key)
            data = yield lambda client: client.get_or_load(name, load, ttl)
        except l1d.Error as error:
            if loading.is_begun:
                raise  # The error of the default itself.
            # Nothing old is stored, so this is a read that failed. If another process has failed
            # to compute the value, this one's own error is better.
            if not isinstance(error, l1d.LoadFailed):
                self._store.reads.take(error)
            return loading.value()
        return loading.value() if loading.is_begun else self._codec.loads(data)

    async def _adumps(self, value: Any) -> bytes:
        """In a thread if the value asks the database now, as querysets do."""
        try:
            return self._codec.dumps(value)
        except SynchronousOnlyOperation:
            return await sync_to_async(self._codec.dumps, thread_sensitive=True)(value)


class _Loading:
    """A default, called at most once."""

    def __init__(self, default: Any) -> None:
        self._default = default
        self._value: Any = None
        self.is_begun = False

    def value(self) -> Any:
        if not self.is_begun:
            self.is_begun = True
            self._value = self._default() if callable(self._default) else self._default
        return self._value


def _serializer(given: Any) -> Any:
    if isinstance(given, str):
        given = import_string(given)
    if callable(given):
        given = given()
    return RedisSerializer() if given is None else given
