"""Types and constants of the client.

>>> bool(ABSENT), UNKNOWN, FOREVER
(False, l1d.UNKNOWN, l1d.FOREVER)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Literal, Union

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["ABSENT", "FOREVER", "UNKNOWN", "Forever", "Key", "Missing", "Ttl"]


class Forever(enum.Enum):
    """The type of :data:`FOREVER`."""

    FOREVER = "FOREVER"

    def __repr__(self) -> str:
        return "l1d.FOREVER"


FOREVER: Literal[Forever.FOREVER] = Forever.FOREVER
"""A ttl: the value has no end in the store of record. Without tiers: the daemon's ``ttl_max``."""


class Missing(enum.Enum):
    """Why ``lookup`` found no value; false."""

    ABSENT = "ABSENT"
    UNKNOWN = "UNKNOWN"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return f"l1d.{self.value}"

    __str__ = __repr__


ABSENT: Literal[Missing.ABSENT] = Missing.ABSENT
"""The key is known to have no value."""

UNKNOWN: Literal[Missing.UNKNOWN] = Missing.UNKNOWN
"""None of the levels asked knows the key."""

Key = Union[str, bytes]
"""A key: 1 to 65,000 bytes with the client's prefix; a str stands for its UTF-8."""

Ttl = Union[float, int, "timedelta", None, Forever]
"""A lifetime: seconds, a timedelta, ``None`` for the rule's, or :data:`FOREVER`. 0 with
``set`` and ``set_many`` deletes; what else stores or touches refuses it."""
