"""Values as bytes, by the serializer of a framework."""

from __future__ import annotations

from typing import Any


class Codec:
    """A framework's serializer. Where that returns text or a whole number, its characters in
    UTF-8 are stored, so that numbers can be counted."""

    def __init__(self, serializer: Any) -> None:
        self.serializer = serializer
        self.loads = serializer.loads

    def dumps(self, value: Any) -> bytes:
        return encoded(self.serializer.dumps(value))


def encoded(data: Any) -> bytes:
    """The result of a serializer, as bytes."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    if type(data) is int:
        return str(data).encode()
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"a serializer returns bytes, text or an int, not {type(data).__name__}")
