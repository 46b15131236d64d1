"""A backend of dogpile.cache::

    from dogpile.cache import make_region

    region = make_region().configure(
        "l1d",
        expiration_time=60,
        arguments={"socket": "/run/l1d/l1d.sock", "prefix": "shop:"},
    )

It is known by that name as soon as l1d is installed. Regions pickle values, unless they are given
a serializer. Whoever may connect to the daemon, or write to its tiers, can store a pickle that runs
code in this process.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex

import l1d

from ._store import seconds, shared

__all__ = ["L1dBackend", "L1dMutex"]

logger = logging.getLogger("l1d")


class L1dBackend(BytesBackend):
    """The arguments, all optional; others are ignored, as by dogpile's own backends:

    - ``socket``: of the daemon; without it, where the daemon usually is.
    - ``prefix``: what keys begin with in the cache.
    - ``l1d_expiration_time``: seconds after which the daemon drops values; more than the region's
      ``expiration_time``, which decides on its own when a value is old. Without it: never.
    - ``distributed_lock`` (true): one process of all creates a value. If false, one thread of each.
    - ``lock_lease`` (30): seconds after which the lock of a process that hangs ends.
    - ``lock_prefix`` ("_lock"): what the keys of locks begin with.
    - ``on_error`` ("miss"): a read that fails finds nothing; `failed_reads` counts them. "raise":
      it raises. A write that fails always raises, because the old value remains visible.
    - ``deadline`` and ``attach_deadline``: seconds, as for `l1d.Client`.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        names = ("socket", "on_error", "deadline", "attach_deadline", "owner_uid")
        options = {name: arguments[name] for name in names if name in arguments}
        self._store = shared(prefix=arguments.get("prefix", ""), clear="flush", **options)
        self._client = self._store.client
        self._ttl = seconds(arguments.get("l1d_expiration_time") or None)
        self._lock_prefix = arguments.get("lock_prefix", "_lock")
        self._lease = arguments.get("lock_lease", 30)
        self._is_lock_distributed = arguments.get("distributed_lock", True)

    @property
    def failed_reads(self) -> int:
        """How many reads of this process failed and were answered as misses."""
        return self._store.reads.count

    def has_lock_timeout(self) -> bool:
        return bool(self._is_lock_distributed)

    def get_mutex(self, key: str) -> CacheMutex | None:
        if not self._is_lock_distributed:
            return None
        return L1dMutex(self._client, f"{self._lock_prefix}{key}", self._lease)

    def get_serialized(self, key: str) -> Any:
        data = self._store.peek(key)
        if data is None:
            data = self._store.run(self._store.get(key))
        return NO_VALUE if data is None else data

    def get_serialized_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        values = self._store.run(self._store.get_many(list(keys)))
        return [NO_VALUE if data is None else data for data in values]

    def set_serialized(self, key: str, value: bytes) -> None:
        self._client.set(key, value, self._ttl)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        if mapping:
            self._client.set_many(mapping.items(), self._ttl)

    def delete(self, key: str) -> None:
        self._client.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if keys:
            self._client.delete_many(keys)


class L1dMutex(CacheMutex):
    """A lock that all processes of the host share, and all hosts where Redis keeps the key. It ends
    with its lease, in seconds, should its holder die. Any thread may release it."""

    def __init__(self, client: l1d.Client, key: str, lease: float) -> None:
        self._client = client
        self._key = key
        self._lease = lease
        self._token: Any = None

    def acquire(self, wait: bool = True) -> bool:
        pause = 0.001
        while True:
            stored = self._client.add(self._key, b"", self._lease)
            if stored:
                self._token = stored.token
                return True
            if not wait:
                return False
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 0.05)

    def release(self) -> None:
        token, self._token = self._token, None
        if token is None or not self._client.delete_if(self._key, token):
            logger.warning(
                "the lock %s was not held any more when it was released: what it protects took "
                "longer than lock_lease (%s s)",
                self._key,
                self._lease,
            )

    def locked(self) -> bool:
        return self._client.get(self._key) is not None
