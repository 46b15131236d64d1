"""Objects over the client of bytes."""

from __future__ import annotations

import contextlib
import inspect
import os
import stat
from typing import Any, Callable, Iterable, Literal, Mapping, NamedTuple, Union

from . import _l1d
from .errors import Error, SomeFailed, Untrusted
from .serializers import Serializer, serializer_of
from .share import freeze, is_immutable
from .types import Key, Ttl

__all__ = ["Cache", "Entry"]

_MISS: Any = object()


class Entry(NamedTuple):
    """An object and the metadata of its value."""

    value: Any
    """The object."""
    flags: int
    """Client flags."""
    version: int
    """Version of the table's entry; 0 if the table has none."""
    token: "int | None"
    """Identifies this value, for ``cas`` and ``delete_if``."""


class _Decoder:
    """What becomes of a value's bytes. A memo refers to it, and it to no cache."""

    def __init__(
        self,
        client: "_l1d.Client",
        serializer: "str | Serializer",
        share: "bool | str",
        trust_tiers: bool,
    ) -> None:
        self.serializer = serializer_of(serializer)
        self.runs_code = getattr(self.serializer, "runs_code", False)
        self._client = client
        self._share = share
        self._trust_tiers = trust_tiers
        # Of the socket and its directory, when every writer was known to be this user.
        self._trusted: object = None

    def load(self, data: bytes, flags: int) -> Any:
        if self.runs_code and not self.is_trusted():
            self.check_writers()
        return self.shared(self.serializer.loads(data, flags))

    def decode(self, data: bytes, flags: int) -> tuple[Any, bool]:
        value = self.load(data, flags)
        return value, self._share is True or is_immutable(value, frozen=self._share == "frozen")

    def shared(self, value: Any) -> Any:
        return freeze(value) if self._share == "frozen" else value

    def is_trusted(self) -> bool:
        """Whether nothing has changed since the last look at who may write."""
        return not self.runs_code or (self._trusted is not None and self._trusted == self._places())

    def check_writers(self) -> None:
        """Refuses values that run code unless every possible writer is this user."""
        kind, own, places = type(self.serializer).__name__, os.geteuid(), self._places()
        if not self._trust_tiers:
            tiers = self._client.stats()["tiers"] or {}
            names = [tier for tier in ("l2", "l3") if tiers.get(tier)]
            if names:
                raise Untrusted(
                    f"{kind} runs code of whoever wrote the value, and the daemon has tiers"
                    f" ({', '.join(names)}): if only trusted programs reach them, say"
                    " trust_tiers=True; otherwise use another serializer"
                )
        if not any(uid == own and not mode & 0o077 for _, uid, mode in places):
            raise Untrusted(
                f"{kind} runs code of whoever wrote the value, and others than user {own} may"
                f" connect to {self._client.socket}: make the socket or its directory this user's"
                " alone (mode 0600 or 0700), or use another serializer"
            )
        self._trusted = places

    def _places(self) -> "tuple[tuple[int, int, int], ...]":
        """The socket and its directory: a daemon that is started again has another socket."""
        path = os.path.abspath(os.fspath(self._client.socket))
        found = [os.stat(place) for place in (path, os.path.dirname(path))]
        return tuple((at.st_ino, at.st_uid, stat.S_IMODE(at.st_mode)) for at in found)


class Codec:
    """A client of bytes and a serializer: what caches of objects have in common."""

    def __init__(
        self,
        client: "_l1d.Client",
        *,
        serializer: "str | Serializer" = "json",
        memo: int = 0,
        share: 'bool | Literal["frozen"]' = False,
        trust_tiers: bool = False,
    ) -> None:
        if share not in (False, True, "frozen"):
            raise ValueError(f'share is False, True or "frozen", not {share!r}')
        decoder = _Decoder(client, serializer, share, trust_tiers)
        self.serializer = decoder.serializer
        self._bytes = client
        self._settings = {
            "serializer": serializer,
            "memo": memo,
            "share": share,
            "trust_tiers": trust_tiers,
        }
        self._runs_code = decoder.runs_code
        self._load = decoder.load
        self._shared = decoder.shared
        self._is_trusted = decoder.is_trusted
        self._check_writers = decoder.check_writers
        self._memo = _l1d.Memo(client, memo, decoder.decode, decoder.load) if memo else None
        self._peek: Callable[..., Any] = self._memo.peek if self._memo else self._peek_loaded

    @staticmethod
    def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The codec's own options, and those of the client."""
        own = {name: options[name] for name in _OWN if name in options}
        return own, {name: option for name, option in options.items() if name not in own}

    def _dump(self, value: Any) -> tuple[bytes, int]:
        dumped = self.serializer.dumps(value)
        return dumped if isinstance(dumped, tuple) else (dumped, 0)

    def _peek_loaded(self, key: Key, default: Any = None) -> Any:
        found = self._bytes._peek_value(key)
        return default if found is None else self._load(*found)

    def _entry(self, found: "_l1d.Value") -> Entry:
        value = self._load(found.value, found.flags)
        return Entry(value, found.flags, found.version, found.token)


_OWN = frozenset(inspect.signature(Codec.__init__).parameters) - {"self", "client"}


def _pairs(
    items: Union[Mapping[Key, Any], Iterable[tuple[Key, Any]]],
) -> Iterable[tuple[Key, Any]]:
    return items.items() if isinstance(items, Mapping) else items


class Cache(Codec):
    """Objects in the host's cache: the methods of :class:`l1d.Client` over a serializer.

    `serializer` is a name (``json``, ``orjson``, ``msgpack``, ``bytes``, ``pymemcache``,
    ``pylibmc``, ``pickle``) or an object (:class:`l1d.serializers.Serializer`).

    `memo` is how many decoded objects this process keeps. Each is compared with the table at every
    use, so it is never older than what another process wrote. `share` says which of them are handed
    out again: those that nobody can change (``False``; others are decoded each time), all of them
    with their dicts and lists made read-only (``"frozen"``), or all of them as they are (``True``:
    whoever changes a result changes it for all later callers).

    >>> cache = Cache()
    >>> cache.set("user:7", {"name": "Ann"}, ttl=60).degraded
    False
    >>> cache.get("user:7")
    {'name': 'Ann'}
    >>> cache.get("user:8", "nobody")
    'nobody'
    """

    def __init__(
        self,
        client: "_l1d.Client | str | os.PathLike[str] | None" = None,
        *,
        prefix: Key = b"",
        **options: Any,
    ) -> None:
        own, options = self._split(options)
        if not isinstance(client, _l1d.Client):
            client = _l1d.Client(client, **options)
        elif options:
            raise TypeError(f"these are options of a new client, and one was given: {options}")
        self.client = client.with_prefix(prefix) if prefix else client
        super().__init__(self.client, **own)
        if self._memo and type(self).get is Cache.get and type(self).peek is Cache.peek:
            # A hit then costs no call of a function of Python.
            self.get = self._memo.get  # type: ignore[method-assign, assignment]
            self.peek = self._memo.peek  # type: ignore[method-assign, assignment]

    def __repr__(self) -> str:
        return f"<l1d.Cache of {type(self.serializer).__name__} over {self.client!r}>"

    def __reduce__(self) -> Any:
        return _cache_again, (self.client, self._settings)

    def get(self, key: Key, default: Any = None) -> Any:
        """The object of a key, from L1 or else from the daemon and the tiers below; `default`
        without one."""
        if self._memo:
            return self._memo.get(key, default)
        value = self._peek(key, _MISS)
        if value is not _MISS:
            return value
        found = self.client.lookup(key)
        return self._load(found.value, found.flags) if found else default

    def peek(self, key: Key, default: Any = None) -> Any:
        """The object of a key if L1 holds it; `default` otherwise. Asks nobody."""
        return self._peek(key, default)

    def get_meta(self, key: Key) -> Entry | None:
        """The object with its metadata; ``None`` without one."""
        found = self.client.lookup(key)
        return self._entry(found) if found else None

    def get_many(self, keys: Iterable[Key], default: Any = None) -> list[Any]:
        """The objects of keys, in their order; `default` for those without one."""
        return [
            default if found is None else self._load(*found)
            for found in self.client._get_many_values(keys)
        ]

    def get_dict(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The objects of those of the keys that have one, by key as it was given."""
        keys = keys if isinstance(keys, (str, bytes)) else list(keys)
        values = self.client._get_many_values(keys)
        return {key: self._load(*found) for key, found in zip(keys, values) if found is not None}

    def set(
        self,
        key: Key,
        value: Any,
        ttl: Ttl = None,
        *,
        write: str | None = None,
        wait: bool = True,
    ) -> "_l1d.Stored":
        """Stores an object for every process of the host, and in the tiers as its rule says."""
        data, flags = self._dump(value)
        return self.client.set(key, data, ttl, flags=flags, write=write, wait=wait)

    def set_many(
        self, items: Union[Mapping[Key, Any], Iterable[tuple[Key, Any]]], ttl: Ttl = None
    ) -> None:
        """Stores many objects; all are tried. Raises ``SomeFailed``."""
        by_flags: dict[int, list[tuple[Key, bytes]]] = {}
        # Of a key that comes twice, the last value.
        pairs = dict(_pairs(items))
        for key, value in pairs.items():
            data, flags = self._dump(value)
            by_flags.setdefault(flags, []).append((key, data))
        errors: dict[Key, Error] = {}
        for flags, values in by_flags.items():
            try:
                self.client.set_many(values, ttl, flags=flags)
            except SomeFailed as failed:
                errors.update(failed.errors)
        if errors:
            raise SomeFailed(errors, len(pairs))

    def delete(self, key: Key) -> "_l1d.Deleted":
        """Removes a key, also in the tiers as its rule says."""
        return self.client.delete(key)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Removes many keys; all are tried. Returns how many existed. Raises ``SomeFailed``."""
        return self.client.delete_many(keys)

    def add(self, key: Key, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object unless the key has one: ``None`` if it has."""
        data, flags = self._dump(value)
        return self.client.add(key, data, ttl, flags=flags)

    def replace(self, key: Key, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object if the key has one: ``None`` if it has not."""
        data, flags = self._dump(value)
        return self.client.replace(key, data, ttl, flags=flags)

    def cas(self, key: Key, token: int, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object if the key still has the one of `token`: ``None`` if not."""
        data, flags = self._dump(value)
        return self.client.cas(key, token, data, ttl, flags=flags)

    def delete_if(self, key: Key, token: int) -> bool:
        """Deletes a key if it still has the object of `token`."""
        return self.client.delete_if(key, token)

    def incr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Adds to a counter and returns its new value. Counters are decimal digits, which JSON
        reads as a number."""
        return self.client.incr(key, by, initial=initial, ttl=ttl)

    def decr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Takes from a counter and returns its new value."""
        return self.client.decr(key, by, initial=initial, ttl=ttl)

    def touch(self, key: Key, ttl: Ttl) -> bool:
        """Gives an object another life. Whether there is one."""
        return self.client.touch(key, ttl)

    def get_and_touch(self, key: Key, ttl: Ttl) -> Any:
        """The object of a key, which is given another life; ``None`` without one."""
        return self.get(key) if self.client.touch(key, ttl) else None

    def get_or_load(
        self,
        key: Key,
        loader: Callable[[], Any],
        ttl: Ttl = None,
        *,
        lease: float = 30.0,
        wait: float = 30.0,
    ) -> Any:
        """The object of a key, or what `loader()` returns for it: one process of the host calls its
        loader, and the others wait; see :meth:`l1d.Client.get_or_load`."""
        _l1d._check_ttl(ttl)
        value = self._peek(key, _MISS)
        if value is not _MISS:
            return value
        reserved = self.client.reserve(key, lease=lease, wait=wait)
        if isinstance(reserved, _l1d.Value):
            return self._load(reserved.value, reserved.flags)
        return _load(self, reserved, loader, ttl)

    def reserve(
        self, key: Key, *, lease: float = 30.0, wait: float = 30.0
    ) -> "Entry | _l1d.Reservation":
        """The object with its metadata, or a reservation of the key, which takes bytes."""
        reserved = self.client.reserve(key, lease=lease, wait=wait)
        return self._entry(reserved) if isinstance(reserved, _l1d.Value) else reserved

    def flush(self, prefix: Key = b"") -> None:
        """Drops all keys below the prefix from L1. Tiers keep theirs."""
        self.client.flush(prefix)

    def explain(self, key: Key) -> dict[str, Any]:
        """Where a key stands."""
        return self.client.explain(key)

    def stats(self) -> dict[str, Any]:
        """The daemon's figures."""
        return self.client.stats()

    def __getitem__(self, key: Key) -> Any:
        value = self.get(key, _MISS)
        if value is _MISS:
            raise KeyError(key)
        return value

    def __contains__(self, key: Key) -> bool:
        return key in self.client


def _load(cache: Cache, reserved: "_l1d.Reservation", loader: Callable[[], Any], ttl: Ttl) -> Any:
    """Computes the object of a reserved key."""
    try:
        value = loader()
        data, flags = cache._dump(value)
    except BaseException as error:
        # What stops the program is no answer for others: the next one loads.
        told = (str(error) or repr(error)) if isinstance(error, Exception) else None
        with contextlib.suppress(Error):
            reserved.abandon(told)
        raise
    with contextlib.suppress(Error):  # A refusal concerns only those who ask later.
        reserved.fill(data, ttl, flags=flags)
    return cache._shared(value)


def _cache_again(client: "_l1d.Client", settings: dict[str, Any]) -> Cache:
    return Cache(client, **settings)
