"""Errors of the client. Each text says what happened, to what, and what to do next."""

from __future__ import annotations

from typing import Mapping, Union

__all__ = [
    "Busy",
    "DeadlineExceeded",
    "Denied",
    "Error",
    "Full",
    "InternalError",
    "Interrupted",
    "LoadFailed",
    "Refused",
    "SomeFailed",
    "SystemFailure",
    "TierFailed",
    "TooLarge",
    "Unavailable",
    "UnknownOutcome",
    "Untrusted",
    "WrongProtocol",
]


class Error(Exception):
    """What every error of l1d is."""

    is_retryable: bool = False
    """The same call may succeed later, and repeating it does no harm: nothing was changed."""


class Unavailable(Error, ConnectionError):
    """The daemon cannot be reached, or went away before it answered; nothing was changed."""

    is_retryable = True


class DeadlineExceeded(Error, TimeoutError):
    """The daemon did not answer in time; nothing was changed by this call."""

    is_retryable = True


class UnknownOutcome(Error):
    """The write was sent and its answer never came: it may have happened or not."""


class TooLarge(Error, ValueError):
    """The key is empty or too long, or the value is larger than table or policy allow."""


class Refused(Error):
    """The daemon refuses this request."""


class Denied(Error, PermissionError):
    """The daemon's access rules do not let this process do this; nothing was changed."""


class Full(Error):
    """The key's rule never evicts, and its entries have taken its share; nothing was changed."""


class TierFailed(Error):
    """A tier below could not answer or take the write; L1 is unchanged."""

    is_retryable = True


class Busy(Error):
    """Too much is waiting already; nothing was changed."""

    is_retryable = True


class LoadFailed(Error):
    """Another process was computing the value of the key, and could not."""

    is_retryable = True


class WrongProtocol(Error):
    """Package and daemon have no version of the protocol in common: upgrade the older one."""


class Untrusted(Error):
    """The daemon handed over a table that this process may not trust."""


class SystemFailure(Error, OSError):
    """The operating system refused this process something."""


class Interrupted(Error):
    """A signal ended the wait; nothing was changed."""


class InternalError(Error):
    """The daemon is at fault, or what answered is no l1d daemon."""


class SomeFailed(Error):
    """Some keys of ``set_many`` or ``delete_many`` failed; the others were carried out."""

    errors: "Mapping[Union[str, bytes], Error]"
    """The error of each key that failed."""

    def __init__(self, errors: "Mapping[Union[str, bytes], Error]", of: int) -> None:
        super().__init__(errors, of)
        self.errors = errors
        self.of = of

    def __str__(self) -> str:
        key, error = next(iter(self.errors.items()))
        return f"{len(self.errors)} of {self.of} keys failed, first {key!r}: {error}"
