"""Objects that several callers may be given: those that nobody can change."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import ipaddress
import types
import uuid
from typing import Any

__all__ = ["freeze", "is_immutable"]

_ATOMS = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        datetime.date,
        datetime.time,
        datetime.datetime,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        uuid.UUID,
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
    }
)


def is_immutable(value: Any, *, frozen: bool = False) -> bool:
    """Whether neither the object nor anything in it can be changed, as far as its type tells.

    `frozen`: it comes from :func:`freeze`, whose read-only mappings are of dicts that nobody else
    has.
    """
    kind = type(value)
    if kind in _ATOMS:
        return True
    if isinstance(value, enum.Enum):
        return is_immutable(value.value)
    if kind is tuple or kind is frozenset:
        return all(is_immutable(item, frozen=frozen) for item in value)
    if kind is types.MappingProxyType:
        return frozen and all(is_immutable(item, frozen=True) for item in value.values())
    config = getattr(kind, "__struct_config__", None)  # msgspec.Struct
    if config is not None and config.frozen:
        return all(is_immutable(getattr(value, name)) for name in kind.__struct_fields__)
    return False


def freeze(value: Any) -> Any:
    """The value with its dicts, lists and sets as read-only mappings, tuples and frozensets.

    >>> freeze({"a": [1, {2}]})
    mappingproxy({'a': (1, frozenset({2}))})
    """
    kind = type(value)
    if kind is dict:
        return types.MappingProxyType({key: freeze(item) for key, item in value.items()})
    if kind is list or kind is tuple:
        return tuple(map(freeze, value))
    if kind is set or kind is frozenset:
        return frozenset(map(freeze, value))
    if kind is bytearray:
        return bytes(value)
    return value
