"""A cache of cachelib::

    from l1d.backends.cachelib import L1dCache

    cache = L1dCache("/run/l1d/l1d.sock", key_prefix="shop:")

Values are pickled, unless `serializer` is replaced. Whoever may connect to the daemon, or write to
its tiers, can store a pickle that runs code in this process.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from cachelib.base import BaseCache
from cachelib.serializers import BaseSerializer, RedisSerializer

from ._codec import Codec, encoded
from ._steps import Steps
from ._store import Store, seconds, shared

__all__ = ["L1dCache"]

Timeout = int | datetime.timedelta | None


class L1dCache(BaseCache):
    """A cache of cachelib on l1d.

    :param socket: the daemon's socket; `None`: where it usually is.
    :param default_timeout: seconds or a timedelta, if a call gives none. 0: without end.
    :param key_prefix: what the keys of this cache begin with, or a function that returns it.
    :param ignore_delete_many_errors: accepted as by other caches, and without effect: a delete that
        fails always raises.
    :param on_error: "miss": a read that fails finds nothing; `failed_reads` counts them. "raise":
        it raises. A write that fails always raises, because the old value remains visible.
    :param clear: "generation": `clear` hides all values of the prefix, in L1 and in the tiers.
        "flush": keys keep their plain names, and `clear` is possible only without tiers.
    :param options: of `l1d.Client`, as ``deadline`` in seconds.
    """

    serializer: BaseSerializer = RedisSerializer()

    def __init__(
        self,
        socket: str | None = None,
        default_timeout: int | datetime.timedelta = 300,
        key_prefix: str | Callable[[], str] | None = None,
        ignore_delete_many_errors: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(default_timeout)
        self.ignore_delete_many_errors = ignore_delete_many_errors
        self.key_prefix = key_prefix or ""
        self._options = {"socket": socket, **options}
        self._fixed = None if callable(self.key_prefix) else self._store_of(self.key_prefix)

    @property
    def failed_reads(self) -> int:
        """How many reads of this process failed and were answered as misses."""
        return self._store.reads.count

    def get(self, key: str) -> Any:
        store, key = self._store, str(key)
        data = store.peek(key)
        if data is None:
            data = store.run(store.get(key))
        return None if data is None else self.serializer.loads(data)

    def get_many(self, *keys: str) -> list[Any]:
        store, loads = self._store, self.serializer.loads
        values = store.run(store.get_many([str(key) for key in keys]))
        return [None if data is None else loads(data) for data in values]

    def has(self, key: str) -> bool:
        store = self._store
        return store.run(store.get(str(key))) is not None

    def set(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        store, data, ttl = self._store, self._dumps(value), self._ttl(timeout)
        if data is None:
            return False
        store.client.set(store.run(store.name(str(key))), data, ttl)
        return True

    def add(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        store, data, ttl = self._store, self._dumps(value), self._ttl(timeout)
        if data is None:
            return False
        return store.run(store.add(store.run(store.name(str(key))), data, ttl))

    def set_many(self, mapping: dict[str, Any], timeout: Timeout = None) -> list[Any]:
        store, ttl = self._store, self._ttl(timeout)
        dumped = [(key, self._dumps(value)) for key, value in mapping.items()]
        stored = [(key, data) for key, data in dumped if data is not None]
        keys = [key for key, _ in stored]
        if keys:
            names = store.run(store.names(map(str, keys)))
            store.client.set_many(zip(names, (data for _, data in stored)), ttl)
        return keys

    def delete(self, key: str) -> bool:
        store = self._store
        return bool(store.client.delete(store.run(store.name(str(key)))))

    def delete_many(self, *keys: str) -> list[Any]:
        store = self._store
        if keys:
            store.client.delete_many(store.run(store.names(map(str, keys))))
        return list(keys)

    def clear(self) -> bool:
        store = self._store
        store.run(store.clear())
        return True

    def inc(self, key: str, delta: int = 1) -> Any:
        return self._count(key, delta)

    def dec(self, key: str, delta: int = 1) -> Any:
        return self._count(key, -delta)

    @property
    def _store(self) -> Store:
        prefix: Any = self.key_prefix
        return self._fixed or self._store_of(prefix())

    def _store_of(self, prefix: str) -> Store:
        return shared(prefix=prefix, **self._options)

    def _ttl(self, timeout: Timeout) -> Any:
        normalized = self._normalize_timeout(timeout)
        return seconds(normalized or None)

    def _dumps(self, value: Any) -> bytes | None:
        """`None`: the serializer cannot, and has logged why."""
        data = self.serializer.dumps(value)
        return None if data is None else encoded(data)

    def _count(self, key: str, delta: int) -> Any:
        def steps(store: Store) -> Steps[Any]:
            name = yield from store.name(str(key))
            codec, ttl = Codec(self.serializer), self._ttl(None)
            return (yield from store.count(name, delta, codec, ttl, initial=delta, add=_add_to))

        store = self._store
        return store.run(steps(store))


def _add_to(value: Any, delta: Any) -> Any:
    return (value or 0) + delta
