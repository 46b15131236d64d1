"""``python -m l1d demo --python``: two processes with a cache each, then with one for both.

A monitor writes ``analysis:signals``; a web process serves what it reads there. First each keeps
what it has read in a cache of its own, before a store that both share, as services with several
tiers do. Then the same two processes use l1d. Each runs in a process of its own, which does what it
is told step by step, so that the order of events is the same in every run.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from . import Cache
from ._server import Server

KEY = "analysis:signals"
_KEPT_SECONDS = 300
_LATER_REQUESTS = 4
_TIMED_READS = 20_000


class _Cache(Protocol):
    """What the services need of a cache."""

    def get(self, key: str) -> Any: ...
    def set(self, key: str, value: Any, ttl: float) -> Any: ...


class OwnCache:
    """A cache in this process, before a store that all processes share: files stand for it."""

    def __init__(self, store: str) -> None:
        self._store = Path(store)
        self._own: dict[str, tuple[float, Any]] = {}

    def get(self, key: str) -> Any:
        """What this process knows already, for as long as it keeps it; otherwise the store's."""
        found = self._own.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        try:
            value = json.loads((self._store / key).read_text())
        except FileNotFoundError:
            return None
        self._own[key] = (time.monotonic() + _KEPT_SECONDS, value)
        return value

    def set(self, key: str, value: Any, ttl: float) -> None:
        """Stores it in this process and in the store. No other process hears of it."""
        self._own[key] = (time.monotonic() + ttl, value)
        (self._store / key).write_text(json.dumps(value))


def _host_cache(socket: str) -> Cache:
    """The host's cache, which decodes a value once for each process, as the other does."""
    return Cache(socket, memo=1000, share=True)


def run() -> int:
    """Runs both halves and prints them; 0 if they show what they are to show."""
    print("1. BEFORE: a cache in each process, before a store that they share\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="l1d-demo-") as store:
        old_before = _scenario(OwnCache, store)
    print("\n2. AFTER: one cache for the host, l1d.Cache(memo=1000, share=True)\n", flush=True)
    with Server() as server:
        server.start()
        old_after = _scenario(_host_cache, server.socket)
    print(
        f"\nRequests that got the old signals after the monitor had written new ones: "
        f"{old_before} of {_LATER_REQUESTS} before, {old_after} of {_LATER_REQUESTS} after."
    )
    return 0 if (old_before, old_after) == (_LATER_REQUESTS, 0) else 1


def _scenario(kind: Callable[[str], _Cache], place: str) -> int:
    """One half; how many requests got old signals."""
    with _Process("monitor", kind, place) as monitor, _Process("web", kind, place) as web:
        monitor.do("write", 0, says="writes 0 signals: it has only begun")
        web.do("read", says="GET /signals -> {} signals")
        monitor.do("write", 7, says="writes 7 signals")
        old = 0
        for _ in range(_LATER_REQUESTS):
            got = web.do("read", says="GET /signals -> {} signals")
            old += got != 7
        note = f"still the old ones, for {_KEPT_SECONDS} s" if old else "the new ones at once"
        print(f"           {note}", flush=True)
        web.do("time", says="a read takes {} ns")
    return old


class _Process:
    """A process with its cache, which does what it is told and tells what it got."""

    def __init__(self, name: str, kind: Callable[[str], _Cache], place: str) -> None:
        self._name = name
        # Not forked: nothing of another process's cache is in it.
        context = multiprocessing.get_context("spawn")
        self._commands, its_end = context.Pipe()
        arguments = (its_end, kind, place)
        self._process = context.Process(target=_serve, args=arguments, name=name, daemon=True)
        self._process.start()
        its_end.close()

    def do(self, *command: Any, says: str) -> Any:
        """Has it do this and prints what it says, with the result in place of ``{}``."""
        self._commands.send(command)
        result = self._commands.recv()
        print(f"   {self._name:<8}{says.format(result)}", flush=True)
        return result

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        self._process.join(5)
        self._process.kill()


def _serve(commands: Connection, kind: Callable[[str], _Cache], place: str) -> None:
    """Does what comes from the pipe, until its other end is closed."""
    cache = kind(place)
    while True:
        try:
            name, *arguments = commands.recv()
        except EOFError:
            return
        result: Any = None
        if name == "write":
            cache.set(KEY, {"signals": ["BUY"] * arguments[0]}, 300)
        elif name == "read":
            result = len(cache.get(KEY)["signals"])
        else:
            result = _nanoseconds(lambda: cache.get(KEY))
        commands.send(result)


def _nanoseconds(read: Callable[[], object]) -> int:
    """What one call takes, in the fastest of several rounds."""
    rounds = []
    for _ in range(5):
        begin = time.perf_counter_ns()
        for _ in range(_TIMED_READS):
            read()
        rounds.append((time.perf_counter_ns() - begin) // _TIMED_READS)
    return min(rounds)
