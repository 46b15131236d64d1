"""Functions whose results the host keeps."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import logging
import threading
import time
from typing import Any, Callable, Literal, NamedTuple, TypeVar, Union

from . import _l1d, aio
from .cache import Cache, Entry
from .errors import Error, LoadFailed, Refused
from .types import Key, Ttl

__all__ = ["cached"]

_F = TypeVar("_F", bound=Callable[..., Any])
_MISS: Any = object()

_log = logging.getLogger("l1d")

# A longer key is replaced by its hash.
_KEY_BYTES = 200


def cached(
    ttl: Ttl = None,
    *,
    key: Union[str, Callable[..., Key], None] = None,
    lock: bool = True,
    cache: Union[Cache, "aio.Cache", None] = None,
    none: Literal["store", "skip"] = "store",
    errors: Literal["share", "retry"] = "share",
    unavailable: Literal["call", "raise"] = "call",
    lease: float = 30.0,
    wait: float = 30.0,
) -> Callable[[_F], _F]:
    """Keeps the results of a function or coroutine function in the host's cache.

    `key` is a format of the arguments' names (``"user:{id}"``), a function of the arguments, or by
    default the function's name and its arguments, which must then be plain data. The cache is the
    whole host's, so a function without a name of its own (of `__main__`, within another) needs a
    key.

    With `lock`, one process of the host computes a key that nobody has, within `lease` seconds, and
    the others wait for it, up to `wait` seconds. `errors` says what they get if it raises:
    ``"share"`` makes them raise :class:`~l1d.LoadFailed` with its text, ``"retry"`` lets the next
    of them compute. `none="skip"` does not keep a result of ``None``. `unavailable` says what to do
    without a daemon or when a tier fails: call the function, or raise.

    The function gets the attributes ``key(*args)``, ``invalidate(*args)`` and ``cache``;
    ``__wrapped__`` is the function itself.

    >>> @cached(60, key="square:{x}")
    ... def square(x):
    ...     print("computing")
    ...     return x * x
    >>> square(4), square(4)
    computing
    (16, 16)
    """

    for name, value, allowed in (
        ("none", none, ("store", "skip")),
        ("errors", errors, ("share", "retry")),
        ("unavailable", unavailable, ("call", "raise")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
    if callable(ttl):
        raise TypeError("write @cached() with parentheses")

    def decorate(function: _F) -> _F:
        kind = _OfCoroutines if inspect.iscoroutinefunction(function) else _OfFunctions
        options = _Options(
            ttl, lock, none == "store", errors == "share", unavailable == "call", lease, wait
        )
        return kind(function, key, cache, options).wrapper()  # type: ignore[return-value]

    return decorate


class _Options(NamedTuple):
    ttl: Ttl
    locks: bool
    keeps_none: bool
    shares_errors: bool
    calls_without_cache: bool
    lease: float
    wait: float


class _Cached:
    """A function whose results are kept."""

    CACHE: Any = Cache

    def __init__(
        self,
        function: Callable[..., Any],
        key: Union[str, Callable[..., Key], None],
        cache: Any,
        options: _Options,
    ) -> None:
        if cache is not None and not isinstance(cache, self.CACHE):
            kind, own = type(cache).__name__, self.CACHE
            raise TypeError(
                f"{function.__qualname__} takes a {own.__module__}.{own.__name__}, not {kind}"
            )
        _l1d._check_ttl(options.ttl)
        self.function = function
        self.options = options
        self._cache = cache
        self._signature = inspect.signature(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self.key: Callable[..., Key]
        if key is None:
            if "<" in function.__qualname__ or function.__module__ == "__main__":
                # The cache is the whole host's: others may have a function of this name.
                raise ValueError(
                    f"{function.__qualname__} of {function.__module__} has no name that is its own"
                    " on this host: give @cached(key=...), a format such as"
                    ' "user:{id}" or a function'
                )
            self.key = self._key_of_arguments
        elif isinstance(key, str):
            self._format = key
            self.key = self._key_by_format
        elif callable(key):
            self.key = key
        else:
            raise TypeError(f"key is a format or a function, not {type(key).__name__}")

    def _bound(self, args: Any, kwargs: Any) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _key_by_format(self, *args: Any, **kwargs: Any) -> str:
        return self._format.format_map(self._bound(args, kwargs))

    def _key_of_arguments(self, *args: Any, **kwargs: Any) -> str:
        arguments = self._bound(args, kwargs)
        key = f"{self._name}:{_plain(tuple(arguments.items()))}"
        if len(key.encode()) > _KEY_BYTES:
            key = f"{self._name}:{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
        return key

    def keeps(self, value: Any) -> bool:
        return value is not None or self.options.keeps_none

    def failed(self, error: Error) -> None:
        """The cache could not answer, and the function is called instead."""
        if not self.options.calls_without_cache:
            raise error
        _warn(self._name, error)

    def wrapper(self) -> Callable[..., Any]:
        raise NotImplementedError


class _OfFunctions(_Cached):
    @property
    def cache(self) -> Cache:
        if self._cache is None:
            self._cache = _default(Cache)
        return self._cache

    def call(self, *args: Any, **kwargs: Any) -> Any:
        key, options = self.key(*args, **kwargs), self.options
        try:
            value = self.cache.get(key, _MISS)
            if value is not _MISS:
                return value
            reserved: Any = None
            if options.locks:
                reserved = self.cache.reserve(key, lease=options.lease, wait=options.wait)
        except LoadFailed:
            raise
        except Error as error:
            self.failed(error)
            return self.function(*args, **kwargs)
        if isinstance(reserved, Entry):
            return reserved.value
        try:
            value = self.function(*args, **kwargs)
            dumped = self.cache._dump(value) if self.keeps(value) else None
        except Exception as error:
            if reserved is not None:
                with contextlib.suppress(Error):
                    reserved.abandon((str(error) or repr(error)) if options.shares_errors else None)
            raise
        except BaseException:
            # Stopped: the next one computes.
            if reserved is not None:
                with contextlib.suppress(Error):
                    reserved.abandon()
            raise
        try:
            if dumped is None:
                if reserved is not None:
                    reserved.abandon()
            elif reserved is not None:
                reserved.fill(dumped[0], options.ttl, flags=dumped[1])
            else:
                self.cache.client.set(key, dumped[0], options.ttl, flags=dumped[1])
        except Refused:
            pass  # The key was changed meanwhile, or the lease has ended: the result is too old.
        except Error as error:
            self.failed(error)
        return value

    def wrapper(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(*args, **kwargs)

        def invalidate(*args: Any, **kwargs: Any) -> bool:
            """Deletes the result for these arguments. Whether there was one."""
            return bool(self.cache.delete(self.key(*args, **kwargs)))

        return _with_attributes(call, self, invalidate)


class _OfCoroutines(_Cached):
    CACHE = aio.Cache

    @property
    def cache(self) -> "aio.Cache":
        if self._cache is None:
            self._cache = _default(aio.Cache)
        return self._cache

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        key, options = self.key(*args, **kwargs), self.options
        try:
            value = await self.cache.get(key, _MISS)
            if value is not _MISS:
                return value
            reserved: Any = None
            if options.locks:
                reserved = await self.cache.reserve(key, lease=options.lease, wait=options.wait)
        except LoadFailed:
            raise
        except Error as error:
            self.failed(error)
            return await self.function(*args, **kwargs)
        if isinstance(reserved, Entry):
            return reserved.value
        try:
            value = await self.function(*args, **kwargs)
            dumped = self.cache._dump(value) if self.keeps(value) else None
        except Exception as error:
            if reserved is not None:
                told = (str(error) or repr(error)) if options.shares_errors else None
                with contextlib.suppress(Error):
                    await aio.ended(reserved._request_abandon, told)
            raise
        except BaseException:
            if reserved is not None:
                # Cancelled: the next one computes.
                aio.give_up(reserved)
            raise
        try:
            if dumped is None:
                if reserved is not None:
                    await aio.ended(reserved._request_abandon)
            elif reserved is not None:
                fill = functools.partial(reserved._request_fill, flags=dumped[1])
                await aio.ended(fill, dumped[0], options.ttl)
            else:
                await self.cache.client.set(key, dumped[0], options.ttl, flags=dumped[1])
        except Refused:
            pass  # The key was changed meanwhile, or the lease has ended: the result is too old.
        except Error as error:
            self.failed(error)
        return value

    def wrapper(self) -> Callable[..., Any]:
        @functools.wraps(self.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.call(*args, **kwargs)

        async def invalidate(*args: Any, **kwargs: Any) -> bool:
            """Deletes the result for these arguments. Whether there was one."""
            return bool(await self.cache.delete(self.key(*args, **kwargs)))

        return _with_attributes(call, self, invalidate)


def _with_attributes(call: Any, cached: Any, invalidate: Any) -> Any:
    call.key, call.invalidate, call._cached = cached.key, invalidate, cached
    return call


def _plain(value: Any) -> str:
    """Plain data as text, different for different values."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return repr(value)
    if kind in (tuple, list):
        return f"({','.join(map(_plain, value))})"
    if kind is dict:
        pairs = sorted(f"{_plain(key)}={_plain(item)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    raise TypeError(
        f"an argument of type {kind.__name__} makes no key: give @cached(key=...), a format such as"
        ' "user:{id}" or a function of the arguments'
    )


_defaults: dict[type, Any] = {}
_defaults_lock = threading.Lock()


def _default(kind: type) -> Any:
    """The cache of functions that were given none: the host's, with JSON."""
    with _defaults_lock:
        if kind not in _defaults:
            client = _l1d.Client(lazy=True)
            _defaults[kind] = kind(client)
        return _defaults[kind]


_warned: dict[str, float] = {}


def _warn(name: str, error: Error) -> None:
    """Logs the trouble of one function once a minute."""
    now = time.monotonic()
    if now >= _warned.get(name, 0.0):
        _warned[name] = now + 60.0
        _log.warning("%s is called without its cache: %s", name, error)
