"""One L1 cache for every process of a host.

A daemon owns a hash table in shared memory, in front of memcached and Redis; every process reads it
directly, and sees a value as soon as another process has set it.
"""

from __future__ import annotations

from . import aio
from ._l1d import Client, Deleted, Reservation, Stored, Value, View, __version__
from .cache import Cache, Entry
from .decorator import cached
from .errors import (
    Busy,
    DeadlineExceeded,
    Denied,
    Error,
    Full,
    InternalError,
    Interrupted,
    LoadFailed,
    Refused,
    SomeFailed,
    SystemFailure,
    TierFailed,
    TooLarge,
    Unavailable,
    UnknownOutcome,
    Untrusted,
    WrongProtocol,
)
from .types import ABSENT, FOREVER, UNKNOWN, Key, Ttl

__all__ = [
    "ABSENT",
    "FOREVER",
    "UNKNOWN",
    "Busy",
    "Cache",
    "Client",
    "DeadlineExceeded",
    "Deleted",
    "Denied",
    "Entry",
    "Error",
    "Full",
    "InternalError",
    "Interrupted",
    "Key",
    "LoadFailed",
    "Refused",
    "Reservation",
    "SomeFailed",
    "Stored",
    "SystemFailure",
    "TierFailed",
    "TooLarge",
    "Ttl",
    "Unavailable",
    "UnknownOutcome",
    "Untrusted",
    "Value",
    "View",
    "WrongProtocol",
    "__version__",
    "aio",
    "cached",
]
