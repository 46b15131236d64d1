"""A cache of aiocache::

    from l1d.backends.aiocache import L1dCache

    cache = L1dCache("/run/l1d/l1d.sock", namespace="shop")

    caches.set_config({"default": {"cache": "l1d.backends.aiocache.L1dCache"}})

Values are JSON, unless another serializer of aiocache is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiocache.base import BaseCache, _ensure_key
from aiocache.serializers import JsonSerializer

import l1d

from ._codec import encoded
from ._steps import Steps
from ._store import compare_and_set, seconds, shared

__all__ = ["L1dCache"]


class _Key(str):
    """A key that knows its namespace."""

    spaces: tuple[str, ...]


class L1dCache(BaseCache):  # type: ignore[misc]  # aiocache has no types.
    """A cache of aiocache on l1d.

    :param socket: the daemon's socket; `None`: where it usually is.
    :param serializer: of aiocache; `JsonSerializer` by default.
    :param prefix: what keys begin with in the cache, before the namespace.
    :param on_error: "miss": a read that fails finds nothing; `failed_reads` counts them. "raise":
        it raises. A write that fails always raises, because the old value remains visible.
    :param clear: "generation": `clear` hides all values of the prefix or of a namespace, in L1 and
        in the tiers. "flush": keys keep their plain names, and `clear` is possible only without
        tiers.
    :param client: options of `l1d.Client`, as ``{"deadline": 0.2}`` in seconds.
    :param options: of aiocache's caches: ``namespace``, ``key_builder``, ``ttl``, ``timeout``,
        ``plugins``.
    """

    NAME = "l1d"

    def __init__(
        self,
        socket: str | None = None,
        *,
        serializer: Any = None,
        prefix: str = "aiocache:",
        on_error: str = "miss",
        clear: str = "generation",
        client: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(serializer=serializer or JsonSerializer(), **options)
        self._store = shared(
            prefix=prefix, socket=socket, on_error=on_error, clear=clear, **(client or {})
        )
        key_builder = options.get("key_builder")
        if key_builder is not None:
            self.build_key = lambda key, namespace=None: self._key(
                key_builder(key, namespace=namespace), namespace
            )

    @property
    def failed_reads(self) -> int:
        """How many reads of this process failed and were answered as misses."""
        return self._store.reads.count

    def _build_key(self, key: Any, namespace: str | None = None) -> str:
        space = self.namespace if namespace is None else namespace
        name = _ensure_key(key)
        return self._key(f"{space}:{name}" if space else name, namespace)

    def _key(self, name: str, namespace: str | None) -> str:
        space = self.namespace if namespace is None else namespace
        key = _Key(name)
        key.spaces = (space,) if space else ()
        return key

    def _name(self, key: str) -> Steps[str]:
        return self._store.name(str(key), self._spaces(key))

    def _spaces(self, key: str) -> tuple[str, ...]:
        if isinstance(key, _Key):
            return key.spaces
        return (self.namespace,) if self.namespace else ()

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        data = await self._store.arun(self._store.get(str(key), self._spaces(key)))
        return data if encoding is None or data is None else data.decode(encoding)

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        return await self._get(key, encoding)

    async def _multi_get(
        self, keys: list[str], encoding: str | None = "utf-8", _conn: Any = None
    ) -> list[Any]:
        # All are of one namespace.
        spaces = self._spaces(keys[0]) if keys else ()
        found = await self._store.arun(self._store.get_many([str(key) for key in keys], spaces))
        if encoding is None:
            return found
        return [None if data is None else data.decode(encoding) for data in found]

    async def _set(
        self, key: str, value: Any, ttl: Any = None, _cas_token: Any = None, _conn: Any = None
    ) -> Any:
        if _cas_token is not None:
            return await self._store.arun(self._compare_and_set(key, value, _cas_token, ttl))
        return await self._store.arun(self._store_value(key, encoded(value), _life(ttl)))

    async def _multi_set(
        self, pairs: Iterable[tuple[str, Any]], ttl: Any = None, _conn: Any = None
    ) -> bool:
        await self._store.arun(self._store_values(list(pairs), _life(ttl)))
        return True

    async def _add(self, key: str, value: Any, ttl: Any = None, _conn: Any = None) -> bool:
        if not await self._store.arun(self._add_value(key, encoded(value), _life(ttl))):
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self._get(key, None) is not None

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        return await self._store.arun(self._count(key, delta))

    async def _expire(self, key: str, ttl: Any, _conn: Any = None) -> bool:
        return await self._store.arun(self._touch(key, _life(ttl)))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return await self._store.arun(self._delete_value(key))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        if namespace:
            await self._store.arun(self._store.clear(namespace, f"{namespace}:"))
        else:
            await self._store.arun(self._store.clear())
        return True

    async def _raw(
        self, command: str, *args: Any, encoding: str | None = "utf-8", **kwargs: Any
    ) -> Any:
        """Calls a method of `l1d.aio.Client`, with keys as the client has them."""
        kwargs.pop("_conn", None)

        def call() -> Steps[Any]:
            return (yield lambda client: getattr(client, command)(*args, **kwargs))

        value = await self._store.arun(call())
        return value.decode(encoding) if encoding and isinstance(value, bytes) else value

    async def _redlock_release(self, key: str, value: Any) -> int:
        return await self._store.arun(self._delete_same(key, encoded(value)))

    # The operations, in steps.

    def _store_value(self, key: str, data: bytes, ttl: Any) -> Steps[bool]:
        name = yield from self._name(key)
        yield lambda client: client.set(name, data, ttl)
        return True

    def _store_values(self, pairs: list[tuple[str, Any]], ttl: Any) -> Steps[None]:
        if pairs:
            spaces = self._spaces(pairs[0][0])
            names = yield from self._store.names([str(key) for key, _ in pairs], spaces)
            items = {name: encoded(value) for name, (_, value) in zip(names, pairs)}
            yield lambda client: client.set_many(items, ttl)

    def _add_value(self, key: str, data: bytes, ttl: Any) -> Steps[bool]:
        name = yield from self._name(key)
        return (yield from self._store.add(name, data, ttl))

    def _count(self, key: str, delta: int) -> Steps[int]:
        name = yield from self._name(key)
        try:
            return (yield lambda client: client.incr(name, delta, initial=delta, ttl=l1d.FOREVER))
        except l1d.Refused:
            data = yield lambda client: client.get(name)
            if data is None or _is_number(data):
                raise
            raise TypeError("Value is not an integer") from None

    def _touch(self, key: str, ttl: Any) -> Steps[bool]:
        name = yield from self._name(key)
        return (yield from self._store.touch(name, ttl))

    def _delete_value(self, key: str) -> Steps[int]:
        name = yield from self._name(key)
        return int(bool((yield lambda client: client.delete(name))))

    def _compare_and_set(self, key: str, value: Any, expected: Any, ttl: Any) -> Steps[bool]:
        name = yield from self._name(key)
        found = yield lambda client: client.get_meta(name)
        if found is None or found.value != encoded(expected):
            return False
        return bool((yield compare_and_set(name, found.token, encoded(value), _life(ttl))))

    def _delete_same(self, key: str, expected: bytes) -> Steps[int]:
        name = yield from self._name(key)
        found = yield lambda client: client.get_meta(name)
        if found is None or found.value != expected or found.token is None:
            return 0
        return int((yield lambda client: client.delete_if(name, found.token)))


def _life(ttl: Any) -> Any:
    """`None` and 0 are without end, as for aiocache's own caches."""
    if ttl is not None and ttl < 0:
        raise ValueError(f"ttl must not be negative: {ttl}")
    return seconds(ttl or None)


def _is_number(data: bytes) -> bool:
    try:
        int(data)
    except ValueError:
        return False
    return True
