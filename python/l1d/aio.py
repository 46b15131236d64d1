"""The client for asyncio: a hit is answered at once, everything else is awaited on the loop.

No thread is used. Requests of one process and loop wait in one hub, which watches one descriptor.
Sixteen of them are under way at a time, and the rest wait in the order in which they were made.

A cancelled read asks for nothing more. A cancelled write that was already sent may still be carried
out, so its outcome is unknown; one that still waited its turn is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from typing import Any, Awaitable, Callable, Coroutine, Iterable, Mapping, Union

from . import _l1d
from .cache import Codec, Entry, _pairs
from .errors import Error, SomeFailed
from .types import Key, Ttl

__all__ = ["Cache", "Client"]

# Requests of a process that the daemon takes at a time.
_UNDER_WAY = 16
# A heartbeat while requests are under way: deadlines pass without an event, and another loop of the
# process may have taken an event that was meant for this one.
_HEARTBEAT = 0.05
# The pause before an unsent request is tried again.
_UNSENT = 0.001

_PENDING: Any = object()
_MISS: Any = object()


async def _done(value: Any) -> Any:
    return value


# A coroutine of a result that is there. From 3.12 on, interpreters await their own coroutines
# faster than any others; before, they took longer to make one.
_ready: Callable[[Any], Coroutine[Any, Any, Any]] = (
    _done if sys.version_info >= (3, 12) else _l1d._ready
)


class _Waiting:
    """A request that a task waits for, or that nobody waits for."""

    __slots__ = ("begin", "future", "request", "descriptor", "orphan")

    def __init__(
        self,
        begin: Callable[[], Any],
        future: asyncio.Future[Any] | None,
        orphan: Callable[[Any], None] | None,
    ) -> None:
        self.begin = begin
        self.future = future
        self.request: Any = None
        self.descriptor = -1
        # Takes the result if nobody waits for it any more; without it, the request is dropped then.
        self.orphan = orphan

    def waiter(self) -> asyncio.Future[Any] | None:
        """The future that still waits for a result."""
        future = self.future
        return None if future is None or future.done() else future


class _Hub:
    """The requests of one process and loop.

    While there are any, a timer of the loop refers to the hub, which keeps it and the tasks that
    wait; a loop that is closed drops its timers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop must not live because of its hub.
        self._loop_of = weakref.ref(loop)
        self._pid = os.getpid()
        self._queue: deque[_Waiting] = deque()
        self._under_way: list[_Waiting] = []
        # Descriptors of requests under way, and the copies of them that the loop watches: a copy
        # stays what it is when the client closes its own.
        self._watched: dict[int, int] = {}
        # When the next timer is due.
        self._due: float | None = None

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop_of()
        if loop is None:
            raise RuntimeError(
                "the event loop that this request was made in has ended: await it in its own loop"
            )
        return loop

    async def ask(
        self, begin: Callable[[], Any], orphan: Callable[[Any], None] | None = None
    ) -> Any:
        """The result of the request that `begin` makes."""
        if not self._queue and len(self._under_way) < _UNDER_WAY:
            request = begin()
            result = request.spin(_PENDING)
            if result is not _PENDING:
                return result
        else:
            request = None
        future = self._loop.create_future()
        waiting = _Waiting(begin, future, orphan)
        if request is None:
            self._queue.append(waiting)
        else:
            self._start(waiting, request)
        try:
            return await future
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise

    def tell(self, begin: Callable[[], Any]) -> None:
        """Makes a request whose answer is nobody's concern. It waits its turn as any other."""
        self._queue.append(_Waiting(begin, None, _drop))
        # Not at once: whoever calls this may be in the middle of a cancellation.
        self._set_timer(0.0)

    def _start(self, waiting: _Waiting, request: Any) -> None:
        waiting.request = request
        self._under_way.append(waiting)
        self._set_timer(_UNSENT if request.is_queued() else _HEARTBEAT)
        self._watch(waiting)

    def _watch(self, waiting: _Waiting) -> None:
        descriptor = waiting.request.fileno()
        waiting.descriptor = descriptor
        if descriptor >= 0 and descriptor not in self._watched:
            copy = os.dup(descriptor)
            self._watched[descriptor] = copy
            self._loop.add_reader(copy, self._readable)

    def _set_timer(self, pause: float) -> None:
        due = self._loop.time() + pause
        if self._due is None or due < self._due:
            self._due = due
            self._loop.call_at(due, self._timeout, due)

    def _timeout(self, due: float) -> None:
        if due == self._due:
            self._due = None
            self._look()

    def _readable(self) -> None:
        # All loops of the process watch the same descriptor, and one has taken its event.
        for hub in _others(self):
            if hub._under_way:
                try:
                    hub._loop.call_soon_threadsafe(hub._look)
                except RuntimeError:  # Its loop was closed.
                    pass
        self._look()

    def _look(self) -> None:
        """Takes the results that have come, and sends what waited for room."""
        still: list[_Waiting] = []
        is_unsent = False
        # A poll takes the events of its descriptor before it looks, so one of them is enough, and
        # another could take that of an answer which others have not yet seen.
        polled: set[int] = set()
        for waiting in self._under_way:
            is_first = waiting.descriptor not in polled
            polled.add(waiting.descriptor)
            if self._take(waiting, is_first):
                continue
            still.append(waiting)
            if waiting.request.is_queued():
                is_unsent = True
        self._under_way = still
        while self._queue and len(self._under_way) < _UNDER_WAY:
            waiting = self._queue.popleft()
            waiter = waiting.waiter()
            if waiter is None and waiting.future is not None:
                continue
            try:
                waiting.request = waiting.begin()
            except BaseException as error:
                if waiter is not None:
                    waiter.set_exception(error)
                continue
            if not self._take(waiting, False):
                self._under_way.append(waiting)
                is_unsent = is_unsent or waiting.request.is_queued()
        if self._under_way:
            self._set_timer(_UNSENT if is_unsent else _HEARTBEAT)
        self._watch_all()

    def _take(self, waiting: _Waiting, polls: bool) -> bool:
        """Gives a result to its task. Whether there was one, or nobody wants it."""
        waiter = waiting.waiter()
        if waiter is None and waiting.orphan is None:
            return True
        try:
            request = waiting.request
            result = request.poll(_PENDING) if polls else request.look(_PENDING)
        except BaseException as error:
            if waiter is not None:
                waiter.set_exception(error)
            return True
        if result is _PENDING:
            return False
        if waiter is not None:
            waiter.set_result(result)
        elif waiting.orphan is not None:
            waiting.orphan(result)
        return True

    def _watch_all(self) -> None:
        """Watches the descriptors of what is under way, and no others: nobody would take their
        events, and the loop would turn without a pause."""
        for waiting in self._under_way:
            if waiting.descriptor < 0 or waiting.descriptor not in self._watched:
                self._watch(waiting)
        if len(self._watched) > 1 or not self._under_way:
            used = {waiting.descriptor for waiting in self._under_way}
            for descriptor in [at for at in self._watched if at not in used]:
                self._unwatch(self._watched.pop(descriptor))

    def _unwatch(self, copy: int) -> None:
        loop = self._loop_of()
        if loop is not None and not loop.is_closed():
            loop.remove_reader(copy)
        os.close(copy)

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting.orphan is not None and waiting.request is not None:
            return
        if waiting.request is None:
            try:
                self._queue.remove(waiting)
            except ValueError:
                pass
        elif waiting in self._under_way:
            self._under_way.remove(waiting)
            waiting.request = None
            if self._queue or not self._under_way:
                self._look()

    def close(self) -> None:
        """Lets go of what the loop watched. In a forked child that is the parent's business."""
        if self._pid == os.getpid():
            for copy in self._watched.values():
                self._unwatch(copy)
        self._watched.clear()

    def __del__(self) -> None:
        self.close()


def _drop(result: Any) -> None:
    """Takes a result that nobody wants; a reservation ends when it is dropped."""


_Hubs = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, "weakref.ref[_Hub]"]
_hubs: _Hubs = weakref.WeakKeyDictionary()
_hubs_lock = threading.Lock()


def _after_fork() -> None:
    global _hubs, _hubs_lock
    _hubs, _hubs_lock = weakref.WeakKeyDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _others(own: _Hub) -> list[_Hub]:
    if len(_hubs) < 2:
        return []
    with _hubs_lock:
        hubs = [found() for found in _hubs.values()]
    return [hub for hub in hubs if hub is not None and hub is not own]


def _hub() -> _Hub:
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    hub = found() if found is not None else None
    if hub is None:
        hub = _Hub(loop)
        with _hubs_lock:
            _hubs[loop] = weakref.ref(hub)
    return hub


class Client:
    """The client for asyncio: the methods of :class:`l1d.Client` that may wait, as coroutines.

    Made from a client, which is then its ``sync``, or with the arguments of one.
    """

    __slots__ = ("sync", "_peek_now")

    def __init__(
        self, client: "_l1d.Client | str | os.PathLike[str] | None" = None, **options: Any
    ) -> None:
        if isinstance(client, _l1d.Client):
            if options:
                raise TypeError(f"these are options of a new client, and one was given: {options}")
            self.sync = client
        else:
            options.setdefault("lazy", True)
            self.sync = _l1d.Client(client, **options)
        self._peek_now = self.sync._peek_now

    def __repr__(self) -> str:
        return f"<l1d.aio.Client over {self.sync!r}>"

    def __reduce__(self) -> Any:
        return (Client, (self.sync,))

    def with_prefix(self, prefix: Key) -> "Client":
        """A client whose keys have a further prefix."""
        return Client(self.sync.with_prefix(prefix))

    def get(self, key: Key, default: Any = None) -> Coroutine[Any, Any, Any]:
        """The value of a key; `default` without one. A hit does not wait: it is what the table held
        when this was called."""
        try:
            value = self._peek_now(key, _MISS)
        except Exception as error:
            return _raising(error)
        return self._ask(key, default) if value is _MISS else _ready(value)

    async def _ask(self, key: Key, default: Any) -> Any:
        found = await _hub().ask(lambda: self.sync._request_lookup(key))
        return found.value if found else default

    def peek(self, key: Key, default: Any = None) -> Any:
        """The value of a key if L1 holds it. No coroutine: it waits for nothing."""
        return self._peek_now(key, default)

    async def lookup(self, key: Key) -> Any:
        """The value with its metadata, or ``ABSENT`` or ``UNKNOWN``."""
        return await _hub().ask(lambda: self.sync._request_lookup(key))

    async def get_meta(self, key: Key) -> "_l1d.Value | None":
        """The value with its metadata; ``None`` without one."""
        return await self.lookup(key) or None

    async def get_many(self, keys: Iterable[Key], default: Any = None) -> list[Any]:
        """The values of keys, in their order."""
        found = await self._many(_key_list(keys))
        return [value.value if value else default for value in found]

    async def get_dict(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """The values of those of the keys that have one."""
        keys = _key_list(keys)
        found = await self._many(keys)
        return {key: value.value for key, value in zip(keys, found) if value}

    async def _many(self, keys: list[Key]) -> list[Any]:
        found: list[Any] = []
        while len(found) < len(keys):
            rest = keys[len(found) :]
            found += await _hub().ask(lambda: self.sync._request_many(rest))
        for value in found:
            if isinstance(value, Error):
                raise value
        return found

    async def set(
        self, key: Key, value: Any, ttl: Ttl = None, *, flags: int = 0, write: str | None = None
    ) -> "_l1d.Stored":
        """Stores bytes for every process of the host."""
        return await _hub().ask(
            lambda: self.sync._request_set(key, value, ttl, flags=flags, write=write)
        )

    async def set_many(
        self,
        items: Union[Mapping[Key, Any], Iterable[tuple[Key, Any]]],
        ttl: Ttl = None,
        *,
        flags: int = 0,
    ) -> None:
        """Stores many values; all are tried. Raises ``SomeFailed``."""
        pairs = list(items.items() if isinstance(items, Mapping) else items)
        await _all(
            [key for key, _ in pairs],
            [self.set(key, value, ttl, flags=flags) for key, value in pairs],
        )

    async def delete(self, key: Key) -> "_l1d.Deleted":
        """Removes a key."""
        return await _hub().ask(lambda: self.sync._request_delete(key))

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Removes many keys; all are tried. Returns how many existed. Raises ``SomeFailed``."""
        keys = _key_list(keys)
        return sum(map(bool, await _all(keys, map(self.delete, keys))))

    async def add(
        self, key: Key, value: Any, ttl: Ttl = None, *, flags: int = 0
    ) -> "_l1d.Stored | None":
        """Stores a value unless the key has one: ``None`` if it has."""
        return await _hub().ask(lambda: self.sync._request_add(key, value, ttl, flags=flags))

    async def replace(
        self, key: Key, value: Any, ttl: Ttl = None, *, flags: int = 0
    ) -> "_l1d.Stored | None":
        """Stores a value if the key has one: ``None`` if it has not."""
        return await _hub().ask(lambda: self.sync._request_replace(key, value, ttl, flags=flags))

    async def cas(
        self, key: Key, token: int, value: Any, ttl: Ttl = None, *, flags: int = 0
    ) -> "_l1d.Stored | None":
        """Stores a value if the key still has the one of `token`: ``None`` if not."""
        return await _hub().ask(lambda: self.sync._request_cas(key, token, value, ttl, flags=flags))

    async def delete_if(self, key: Key, token: int) -> bool:
        """Deletes a key if it still has the value of `token`."""
        return await _hub().ask(lambda: self.sync._request_delete_if(key, token))

    async def append(self, key: Key, data: Any) -> "_l1d.Stored | None":
        """Puts bytes after a value: ``None`` without one."""
        return await _hub().ask(lambda: self.sync._request_append(key, data))

    async def prepend(self, key: Key, data: Any) -> "_l1d.Stored | None":
        """Puts bytes before a value: ``None`` without one."""
        return await _hub().ask(lambda: self.sync._request_prepend(key, data))

    async def incr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Adds to a counter and returns its new value."""
        return await _hub().ask(lambda: self.sync._request_incr(key, by, initial=initial, ttl=ttl))

    async def decr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Takes from a counter and returns its new value."""
        return await _hub().ask(lambda: self.sync._request_decr(key, by, initial=initial, ttl=ttl))

    async def touch(self, key: Key, ttl: Ttl) -> bool:
        """Gives a value another life. Whether there is one."""
        return await _hub().ask(lambda: self.sync._request_touch(key, ttl))

    async def get_and_touch(self, key: Key, ttl: Ttl) -> bytes | None:
        """The value of a key, which is given another life."""
        return await _hub().ask(lambda: self.sync._request_get_and_touch(key, ttl))

    async def get_or_load(
        self,
        key: Key,
        loader: Callable[[], Any],
        ttl: Ttl = None,
        *,
        flags: int = 0,
        lease: float = 30.0,
        wait: float = 30.0,
    ) -> bytes:
        """The value of a key, or what `loader` returns for it, which may be a coroutine function:
        one process of the host calls its loader, and the others wait. If the task is cancelled
        meanwhile, the next one loads."""
        _l1d._check_ttl(ttl)
        value = self._peek_now(key, _MISS)
        if value is not _MISS:
            return value
        reserved = await self.reserve(key, lease=lease, wait=wait)
        if isinstance(reserved, _l1d.Value):
            return reserved.value
        try:
            loaded = loader()
            if isinstance(loaded, Awaitable):
                loaded = await loaded
            loaded = bytes(memoryview(loaded))
        except Exception as error:
            with contextlib.suppress(Error):
                await ended(reserved._request_abandon, str(error) or repr(error))
            raise
        except BaseException:
            # Cancelled: the next one loads.
            give_up(reserved)
            raise
        await _fill(reserved, loaded, ttl, flags)
        return loaded

    async def reserve(
        self, key: Key, *, lease: float = 30.0, wait: float = 30.0
    ) -> "_l1d.Value | _l1d.Reservation":
        """The value of a key, or a reservation: then this task is to compute the value."""
        hub = _hub()
        step = await hub.ask(lambda: self.sync._request_reserve(key, lease, wait), _drop)
        while isinstance(step, _l1d.Loading):
            end = hub._loop.time() + step.pause
            while (left := end - hub._loop.time()) > 0:
                await asyncio.sleep(min(left, _UNSENT))
                value = step.look()
                if value is not None:
                    return value
            loading = step
            step = await hub.ask(lambda: loading._request_again(), _drop)
        return step

    async def flush(self, prefix: Key = b"") -> None:
        """Drops all keys below the prefix from L1, in a thread."""
        await asyncio.to_thread(self.sync.flush, prefix)

    async def explain(self, key: Key) -> dict[str, Any]:
        """Where a key stands, asked in a thread."""
        return await asyncio.to_thread(self.sync.explain, key)

    async def policy(self) -> dict[str, Any]:
        """The daemon's rules, asked in a thread."""
        return await asyncio.to_thread(self.sync.policy)

    async def stats(self) -> dict[str, Any]:
        """The daemon's figures, asked in a thread."""
        return await asyncio.to_thread(self.sync.stats)


async def ended(begin: Callable[..., Any], *args: Any) -> Any:
    """The result of a request that a reservation ends with."""
    return await _hub().ask(lambda: begin(*args))


def give_up(reserved: "_l1d.Reservation") -> None:
    """Hands a reserved key on, without waiting for the answer."""
    # Where the loop is gone, the reservation is given up when it is dropped.
    with contextlib.suppress(RuntimeError):
        _hub().tell(reserved._request_abandon)


async def _fill(reserved: "_l1d.Reservation", data: bytes, ttl: Ttl, flags: int) -> None:
    try:
        await ended(lambda: reserved._request_fill(data, ttl, flags=flags))
    except Error:
        pass  # A refusal concerns only those who ask later.
    except BaseException:
        # Nobody waits for the value any more; if it was not sent, the next one loads.
        give_up(reserved)
        raise


async def _raising(error: Exception) -> Any:
    """Raises where it is awaited, as every coroutine function does."""
    raise error


def _key_list(keys: Iterable[Key]) -> list[Key]:
    if isinstance(keys, (str, bytes)):
        raise TypeError("several keys are expected, and this is one: put it into a list")
    return list(keys)


async def _all(keys: list[Key], calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of all calls, one for each key."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed: dict[Key, Error] = {}
    for key, result in zip(keys, results):
        if isinstance(result, Error):
            failed[key] = result
        elif isinstance(result, BaseException):
            raise result
    if failed:
        raise SomeFailed(failed, len(keys))
    return results


class Cache(Codec):
    """Objects over :class:`l1d.aio.Client`: the methods of :class:`l1d.Cache` that may wait, as
    coroutines."""

    def __init__(
        self,
        client: "Client | _l1d.Client | str | os.PathLike[str] | None" = None,
        *,
        prefix: Key = b"",
        **options: Any,
    ) -> None:
        own, options = self._split(options)
        client = client if isinstance(client, Client) else Client(client, **options)
        self.client = client.with_prefix(prefix) if prefix else client
        super().__init__(self.client.sync, **own)

    async def _trust(self) -> None:
        """Looks, where values run code, who may write them; in a thread, as that may wait."""
        if not self._is_trusted():
            await asyncio.to_thread(self._check_writers)

    def __reduce__(self) -> Any:
        return _cache_again, (self.client, self._settings)

    def get(self, key: Key, default: Any = None) -> Coroutine[Any, Any, Any]:
        """The object of a key; `default` without one. A hit does not wait: it is what the table
        held when this was called."""
        if self._runs_code:
            return self._get(key, default)
        try:
            value = self._peek(key, _MISS)
        except Exception as error:
            return _raising(error)
        return self._ask(key, default) if value is _MISS else _ready(value)

    async def _get(self, key: Key, default: Any) -> Any:
        await self._trust()
        value = self._peek(key, _MISS)
        return await self._ask(key, default) if value is _MISS else value

    async def _ask(self, key: Key, default: Any) -> Any:
        found = await self.client.lookup(key)
        return self._load(found.value, found.flags) if found else default

    def peek(self, key: Key, default: Any = None) -> Any:
        """The object of a key if L1 holds it. No coroutine: it waits for nothing."""
        return self._peek(key, default) if self._is_trusted() else default

    async def get_meta(self, key: Key) -> Entry | None:
        """The object with its metadata; ``None`` without one."""
        await self._trust()
        found = await self.client.lookup(key)
        return self._entry(found) if found else None

    async def get_many(self, keys: Iterable[Key], default: Any = None) -> list[Any]:
        """The objects of keys, in their order."""
        await self._trust()
        found = await self.client._many(_key_list(keys))
        return [self._load(value.value, value.flags) if value else default for value in found]

    async def get_dict(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The objects of those of the keys that have one."""
        await self._trust()
        keys = _key_list(keys)
        found = await self.client._many(keys)
        return {
            key: self._load(value.value, value.flags) for key, value in zip(keys, found) if value
        }

    async def set(
        self, key: Key, value: Any, ttl: Ttl = None, *, write: str | None = None
    ) -> "_l1d.Stored":
        """Stores an object for every process of the host."""
        data, flags = self._dump(value)
        return await self.client.set(key, data, ttl, flags=flags, write=write)

    async def set_many(
        self, items: Union[Mapping[Key, Any], Iterable[tuple[Key, Any]]], ttl: Ttl = None
    ) -> None:
        """Stores many objects; all are tried. Raises ``SomeFailed``."""
        pairs = [(key, *self._dump(value)) for key, value in _pairs(items)]
        calls = [self.client.set(key, data, ttl, flags=flags) for key, data, flags in pairs]
        await _all([key for key, _, _ in pairs], calls)

    async def delete(self, key: Key) -> "_l1d.Deleted":
        """Removes a key."""
        return await self.client.delete(key)

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Removes many keys; all are tried. Returns how many existed. Raises ``SomeFailed``."""
        return await self.client.delete_many(keys)

    async def add(self, key: Key, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object unless the key has one: ``None`` if it has."""
        data, flags = self._dump(value)
        return await self.client.add(key, data, ttl, flags=flags)

    async def replace(self, key: Key, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object if the key has one: ``None`` if it has not."""
        data, flags = self._dump(value)
        return await self.client.replace(key, data, ttl, flags=flags)

    async def cas(self, key: Key, token: int, value: Any, ttl: Ttl = None) -> "_l1d.Stored | None":
        """Stores an object if the key still has the one of `token`: ``None`` if not."""
        data, flags = self._dump(value)
        return await self.client.cas(key, token, data, ttl, flags=flags)

    async def delete_if(self, key: Key, token: int) -> bool:
        """Deletes a key if it still has the object of `token`."""
        return await self.client.delete_if(key, token)

    async def incr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Adds to a counter and returns its new value."""
        return await self.client.incr(key, by, initial=initial, ttl=ttl)

    async def decr(
        self, key: Key, by: int = 1, *, initial: int | None = None, ttl: Ttl = None
    ) -> int | None:
        """Takes from a counter and returns its new value."""
        return await self.client.decr(key, by, initial=initial, ttl=ttl)

    async def touch(self, key: Key, ttl: Ttl) -> bool:
        """Gives an object another life. Whether there is one."""
        return await self.client.touch(key, ttl)

    async def get_and_touch(self, key: Key, ttl: Ttl) -> Any:
        """The object of a key, which is given another life; ``None`` without one."""
        if not await self.client.touch(key, ttl):
            return None
        return await self.get(key)

    async def get_or_load(
        self,
        key: Key,
        loader: Callable[[], Any],
        ttl: Ttl = None,
        *,
        lease: float = 30.0,
        wait: float = 30.0,
    ) -> Any:
        """The object of a key, or what `loader` returns for it; see
        :meth:`l1d.aio.Client.get_or_load`."""
        _l1d._check_ttl(ttl)
        await self._trust()
        value = self._peek(key, _MISS)
        if value is not _MISS:
            return value
        reserved = await self.client.reserve(key, lease=lease, wait=wait)
        if isinstance(reserved, _l1d.Value):
            return self._load(reserved.value, reserved.flags)
        try:
            loaded = loader()
            if isinstance(loaded, Awaitable):
                loaded = await loaded
            data, flags = self._dump(loaded)
        except Exception as error:
            with contextlib.suppress(Error):
                await ended(reserved._request_abandon, str(error) or repr(error))
            raise
        except BaseException:
            # Cancelled: the next one loads.
            give_up(reserved)
            raise
        await _fill(reserved, data, ttl, flags)
        return self._shared(loaded)

    async def reserve(
        self, key: Key, *, lease: float = 30.0, wait: float = 30.0
    ) -> "Entry | _l1d.Reservation":
        """The object with its metadata, or a reservation of the key."""
        await self._trust()
        reserved = await self.client.reserve(key, lease=lease, wait=wait)
        return self._entry(reserved) if isinstance(reserved, _l1d.Value) else reserved


def _cache_again(client: Client, settings: dict[str, Any]) -> Cache:
    return Cache(client, **settings)
