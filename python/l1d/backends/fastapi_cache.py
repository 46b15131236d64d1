"""A backend of fastapi-cache2::

    from fastapi_cache import FastAPICache
    from l1d.backends.fastapi_cache import L1dBackend

    FastAPICache.init(L1dBackend("/run/l1d/l1d.sock"), prefix="shop")

A value is stored after 8 bytes with its end, which responses need for ``Cache-Control``.
"""

from __future__ import annotations

import math
import struct
import time
from typing import Any

from fastapi_cache.types import Backend

from ._steps import Steps
from ._store import seconds, shared

__all__ = ["L1dBackend"]

#: Milliseconds since 1970 at which the value ends; 0: never.
_END = struct.Struct(">Q")


class L1dBackend(Backend):
    """A backend of fastapi-cache2 on l1d.

    :param socket: the daemon's socket; `None`: where it usually is.
    :param prefix: what keys begin with in the cache, before the prefix of `FastAPICache`.
    :param on_error: "miss": a read that fails finds nothing; `failed_reads` counts them. "raise":
        it raises. A write that fails always raises; the decorator `cache` logs that and goes on.
    :param clear: "generation": `clear` hides the values in L1 and in the tiers. "flush": keys keep
        their plain names, and clearing a namespace is possible only without tiers.
    :param options: of `l1d.Client`, as ``deadline`` in seconds.
    """

    def __init__(self, socket: str | None = None, *, prefix: str = "", **options: Any) -> None:
        self._store = shared(prefix=prefix, socket=socket, **options)

    @property
    def failed_reads(self) -> int:
        """How many reads of this process failed and were answered as misses."""
        return self._store.reads.count

    async def get_with_ttl(self, key: str) -> tuple[int, bytes | None]:
        """The seconds left and the value; -1 second if it has no end, 0 and `None` without one."""
        data = await self._store.arun(self._store.get(key, _spaces(key)))
        if data is None:
            return 0, None
        (end,) = _END.unpack_from(data)
        left = math.ceil(end / 1000 - time.time()) if end else -1
        return (max(left, 0) if end else left), data[_END.size :]

    async def get(self, key: str) -> bytes | None:
        """The value."""
        return (await self.get_with_ttl(key))[1]

    async def set(self, key: str, value: bytes, expire: int | None = None) -> None:
        """Stores a value for `expire` seconds; `None`: without end."""
        await self._store.arun(self._set(key, value, expire))

    async def clear(self, namespace: str | None = None, key: str | None = None) -> int:
        """Hides all values whose keys begin with the namespace and a colon, or deletes the key.
        Returns how many keys were deleted; 0 for a namespace, because nobody counts them."""
        return await self._store.arun(self._clear(namespace, key))

    def _set(self, key: str, value: bytes, expire: int | None) -> Steps[None]:
        end = 0 if expire is None else int((time.time() + max(0, expire)) * 1000)
        name = yield from self._store.name(key, _spaces(key))
        data = _END.pack(end) + value
        yield lambda client: client.set(name, data, seconds(expire))

    def _clear(self, namespace: str | None, key: str | None) -> Steps[int]:
        if namespace:
            if namespace.count(":") >= _LEVELS:
                raise ValueError(
                    f"{namespace!r} cannot be cleared, only the first {_LEVELS} parts of a"
                    " namespace can: clear those"
                )
            yield from self._store.clear(namespace, f"{namespace}:")
            return 0
        if key is None:
            yield from self._store.clear()
            return 0
        name = yield from self._store.name(key, _spaces(key))
        return int(bool((yield lambda client: client.delete(name))))


#: Parts of a key that can be cleared as a namespace: the prefix of `FastAPICache`, and a namespace.
_LEVELS = 2


def _spaces(key: str) -> tuple[str, ...]:
    """The namespaces that a key is in."""
    parts = key.split(":", _LEVELS)[:-1]
    return tuple(":".join(parts[: i + 1]) for i in range(len(parts)))
