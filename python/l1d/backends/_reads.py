"""Reads that fail: misses that are counted and logged, or errors."""

from __future__ import annotations

import logging
import time

import l1d

from ._forks import lock

logger = logging.getLogger("l1d")

#: Seconds between two log lines on failed reads.
LINE_INTERVAL = 60.0


class FailedReads:
    """Takes the errors of reads.

    With ``on_error="miss"`` a read that fails finds nothing: it is counted, and logged at most
    once a minute on the logger "l1d". With ``"raise"`` its error is raised. Keys that no cache
    could hold are the caller's mistake and always raise.
    """

    def __init__(self, on_error: str) -> None:
        if on_error not in ("miss", "raise"):
            raise ValueError(f'on_error must be "miss" or "raise", not {on_error!r}')
        self.on_error = on_error
        #: Reads of this process that failed and were answered as misses.
        self.count = 0
        self._unlogged = 0
        self._next_line = 0.0

    def take(self, error: l1d.Error) -> None:
        """Returns if the read is to be answered as a miss, and raises `error` otherwise."""
        if self.on_error == "raise" or isinstance(error, l1d.TooLarge):
            raise error
        now = time.monotonic()
        with lock:
            self.count += 1
            self._unlogged += 1
            if now < self._next_line:
                return
            self._next_line = now + LINE_INTERVAL
            unlogged, self._unlogged = self._unlogged, 0
        logger.warning(
            "reads of the cache fail and count as misses (%d since the last such line): %s",
            unlogged,
            error,
        )
