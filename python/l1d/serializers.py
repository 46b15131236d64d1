"""How objects become bytes.

Who reaches the daemon's socket, memcached or Redis can write what a process reads. JSON and msgpack
only make data of it; pickle runs what it is told, and is taken only by name (see :class:`Pickle`).
"""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any, Protocol, Union, runtime_checkable

__all__ = ["Bytes", "Json", "Msgpack", "Orjson", "Pickle", "Pylibmc", "Pymemcache", "Serializer"]


@runtime_checkable
class Serializer(Protocol):
    """Turns objects into bytes and back.

    One that may run code of whoever wrote the bytes has the attribute ``runs_code = True``.
    """

    def dumps(self, value: Any) -> Union[bytes, tuple[bytes, int]]:
        """The bytes of an object, and client flags if it has any."""

    def loads(self, data: bytes, flags: int) -> Any:
        """The object of these bytes, stored with these client flags."""


class Json:
    """JSON of the standard library: what it makes of tuples and of keys that are no strings is
    lists and strings."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, data: bytes, flags: int) -> Any:
        return json.loads(data)


class Orjson:
    """JSON by orjson: faster, and with dataclasses, datetimes and UUIDs. Extra: ``l1d[orjson]``."""

    def __init__(self) -> None:
        import orjson

        self.dumps = orjson.dumps
        self._loads = orjson.loads

    def loads(self, data: bytes, flags: int) -> Any:
        return self._loads(data)


class Msgpack:
    """Msgpack by msgspec, optionally of one type, which is checked when a value is read.

    Extra: ``l1d[msgspec]``.
    """

    def __init__(self, type: Any = Any) -> None:
        import msgspec

        self.dumps = msgspec.msgpack.Encoder().encode
        self._loads = msgspec.msgpack.Decoder(type).decode

    def loads(self, data: bytes, flags: int) -> Any:
        return self._loads(data)


class Bytes:
    """Bytes as they are."""

    def dumps(self, value: bytes) -> bytes:
        return value

    def loads(self, data: bytes, flags: int) -> bytes:
        return data


class Pickle:
    """Pickle: any object of Python, and any code of whoever can write the key."""

    runs_code = True

    def __init__(self, protocol: int = pickle.HIGHEST_PROTOCOL) -> None:
        self.protocol = protocol

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value, self.protocol)

    def loads(self, data: bytes, flags: int) -> Any:
        return pickle.loads(data)


class _Memcached:
    """Formats of memcached clients, which say in the client flags what a value is."""

    PICKLE = 1
    INTEGER = 2
    LONG = 4
    ZLIB = 8
    TEXT = 16

    def __init__(self, *, pickles: bool = False) -> None:
        self.runs_code = pickles

    def dumps(self, value: Any) -> tuple[bytes, int]:
        if isinstance(value, bytes):
            return value, 0
        if isinstance(value, str):
            return value.encode(), self.TEXT
        if type(value) is int:
            return b"%d" % value, self.INTEGER
        return self._pickled(value)

    def _pickled(self, value: Any) -> tuple[bytes, int]:
        if not self.runs_code:
            kind, own = type(value).__name__, type(self).__name__
            raise TypeError(f"{kind} is stored as a pickle only: allow that by {own}(pickles=True)")
        return pickle.dumps(value), self.PICKLE

    def loads(self, data: bytes, flags: int) -> Any:
        if flags & self.ZLIB:
            data = zlib.decompress(data)
        if flags & self.PICKLE:
            if not self.runs_code:
                own = type(self).__name__
                raise ValueError(
                    f"the value is a pickle; if you trust who wrote it, use {own}(pickles=True)"
                )
            return pickle.loads(data)
        if flags & (self.INTEGER | self.LONG):
            return int(data)
        if flags & self.TEXT:
            return data.decode()
        return data


class Pymemcache(_Memcached):
    """The format of pymemcache's ``serde``; compressed values are read, and not written."""


class Pylibmc(_Memcached):
    """The format of pylibmc, which reads bools as integers; compressed values are read, and not
    written."""

    def dumps(self, value: Any) -> tuple[bytes, int]:
        if isinstance(value, bool):
            return b"%d" % value, self.INTEGER
        if isinstance(value, int):
            return b"%d" % value, self.LONG
        return super().dumps(value)


NAMES: dict[str, Any] = {
    "json": Json,
    "orjson": Orjson,
    "msgpack": Msgpack,
    "msgspec": Msgpack,
    "bytes": Bytes,
    "pickle": Pickle,
    "pymemcache": Pymemcache,
    "pylibmc": Pylibmc,
}


def serializer_of(serializer: Union[str, Serializer]) -> Serializer:
    """A serializer by its name, or itself."""
    if isinstance(serializer, str):
        if serializer not in NAMES:
            names = ", ".join(sorted(NAMES))
            raise ValueError(f"no serializer is called {serializer!r}; use one of {names}")
        named: Serializer = NAMES[serializer]()
        return named
    if not isinstance(serializer, Serializer):
        kind = type(serializer).__name__
        text = "a serializer is a name or has dumps(value) and loads(data, flags)"
        raise TypeError(f"{text}, not {kind}")
    return serializer
