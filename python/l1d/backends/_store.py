"""The cache that a backend stands on: a client that the whole process shares, generations of
keys, and reads that may fail."""

from __future__ import annotations

import operator
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import l1d

from ._codec import Codec
from ._forks import lock
from ._reads import FailedReads
from ._steps import Steps, arun, run

T = TypeVar("T")

#: The key with the number of the current generation; those of spaces follow it.
GENERATION = "generation"

#: Seconds between two renewals of the generation's life by one process. A table without tiers
#: limits every life (`ttl_max`), and without its generation the cache is empty.
RENEWAL_INTERVAL = 600.0

#: How often another change may come between a look at a value and its replacement.
CONFLICTS_MAX = 1000

#: Lives beyond this many seconds are without end.
TTL_MAX = 100 * 365 * 86400

_clients: dict[Any, l1d.Client] = {}
_stores: dict[Any, Store] = {}


def shared(
    *,
    prefix: str,
    socket: str | None = None,
    on_error: str = "miss",
    clear: str = "generation",
    **options: Any,
) -> Store:
    """This process's store with these settings. `options` are those of `l1d.Client`."""
    place = (socket, *sorted(options.items()))
    settings = (place, prefix, on_error, clear)
    with lock:
        found = _stores.get(settings)
        if found is None:
            client = _clients.get(place)
            if client is None:
                client = _clients[place] = l1d.Client(socket, lazy=True, **options)
            found = _stores[settings] = Store(client.with_prefix(prefix), on_error, clear)
        return found


def seconds(timeout: float | timedelta | None) -> Any:
    """A framework's timeout as a life: `None` is without end; zero and less keep nothing."""
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    if timeout is None or timeout > TTL_MAX:
        return l1d.FOREVER
    return max(0, timeout)


class Store:
    """The keys of one client.

    Tiers cannot be asked for keys by prefix. So that `clear` can hide all of them, each key's name
    begins with the number of its generation, which is kept under a key of its own; clearing begins
    another generation. That costs a second hit for each read. A generation that was lost is
    followed by a random number, so old values never come back. *Spaces* have generations of their
    own and can be cleared alone.

    With ``clear="flush"`` keys keep their plain names, and clearing empties L1. It is refused where
    tiers keep the keys.
    """

    def __init__(self, client: l1d.Client, on_error: str, clear: str) -> None:
        if clear not in ("generation", "flush"):
            raise ValueError(f'clear must be "generation" or "flush", not {clear!r}')
        self.client = client
        self.reads = FailedReads(on_error)
        self._has_generations = clear == "generation"
        self._renew_at: dict[str, float] = {}
        self._aio: Any = None

    def run(self, steps: Steps[T]) -> T:
        """Runs an operation."""
        return run(steps, self.client)

    async def arun(self, steps: Steps[T]) -> T:
        """Runs an operation without blocking."""
        if self._aio is None:
            from l1d import aio

            self._aio = aio.Client(self.client)
        return await arun(steps, self._aio)

    def peek(self, key: str, spaces: Sequence[str] = ()) -> bytes | None:
        """The value, if table and generation are at hand: a hit without further steps."""
        if not self._has_generations:
            return self.client.peek(key)
        number = None if spaces else self.client.peek(GENERATION)
        return None if number is None else self.client.peek(f"{number.decode()}:{key}")

    def get(self, key: str, spaces: Sequence[str] = ()) -> Steps[bytes | None]:
        """The value; `None` also if the read failed, unless it is to raise."""
        try:
            stem = yield from self._stem(spaces, begins=False)
            if stem is None:
                return None
            return (yield lambda client: client.get(stem + key))
        except l1d.Error as error:
            self.reads.take(error)
            return None

    def get_many(
        self, keys: Sequence[str], spaces: Sequence[str] = ()
    ) -> Steps[list[bytes | None]]:
        """The values in the order of the keys, as `get` finds them."""
        if not keys:
            return []
        try:
            stem = yield from self._stem(spaces, begins=False)
            if stem is None:
                return [None] * len(keys)
            return (yield lambda client: client.get_many([stem + key for key in keys]))
        except l1d.Error as error:
            self.reads.take(error)
            return [None] * len(keys)

    def name(self, key: str, spaces: Sequence[str] = ()) -> Steps[str]:
        """The name under which a write finds or stores the key."""
        return (yield from self._stem(spaces, begins=True)) + key

    def names(self, keys: Iterable[str], spaces: Sequence[str] = ()) -> Steps[list[str]]:
        """The names of several keys."""
        stem = yield from self._stem(spaces, begins=True)
        return [stem + key for key in keys]

    def add(self, name: str, value: bytes, ttl: Any) -> Steps[bool]:
        """Stores the value unless there is one. A life of zero stores nothing."""
        if ttl == 0:
            return (yield lambda client: client.get(name)) is None
        return bool((yield lambda client: client.add(name, value, ttl)))

    def touch(self, name: str, ttl: Any) -> Steps[bool]:
        """Gives the value another life. A life of zero deletes it."""
        if ttl == 0:
            return bool((yield lambda client: client.delete(name)))
        return bool((yield lambda client: client.touch(name, ttl)))

    def count(
        self,
        name: str,
        by: Any,
        codec: Codec,
        ttl: Any,
        *,
        initial: Any = None,
        add: Callable[[Any, Any], Any] = operator.add,
    ) -> Steps[Any]:
        """Adds `by` to a number, and stores `initial` if there is none. `None`: there was none, and
        no `initial`. The daemon adds to decimals. Other numbers of the serializer are replaced, if
        they are still the same then."""
        if type(by) is int and (initial is None or codec.dumps(initial) == b"%d" % initial):
            try:
                return (yield lambda client: client.incr(name, by, initial=initial, ttl=ttl))
            except (l1d.Refused, OverflowError):
                pass  # No decimal, or one that would not fit 64 bits.
        for _ in range(CONFLICTS_MAX):
            found = yield lambda client: client.get_meta(name)
            if found is not None:
                value = add(codec.loads(found.value), by)
                stored = yield compare_and_set(name, found.token, codec.dumps(value), ttl)
            elif initial is not None:
                value = initial
                stored = yield lambda client: client.add(name, codec.dumps(initial), ttl)
            else:
                return None
            if stored:
                return value
        raise l1d.Busy("nothing was changed: others change this key all the time; try again later")

    def clear(self, space: str | None = None, prefix: str = "") -> Steps[None]:
        """Hides all values, or those of one space, whose keys begin with `prefix`."""
        if self._has_generations:
            name, initial = _generation_of(space), _fresh()
            yield lambda client: client.incr(name, 1, initial=initial, ttl=l1d.FOREVER)
        elif (yield from self._is_kept_in_tiers(prefix)):
            raise l1d.Refused(
                f"nothing was cleared: tiers keep keys that begin with {prefix!r}, and clearing L1 "
                'would bring their values back; use clear="generation"'
            )
        else:
            yield lambda client: client.flush(prefix)

    def _is_kept_in_tiers(self, prefix: str) -> Steps[bool]:
        about = yield lambda client: client.explain(f"{prefix}*")
        policy = yield lambda client: client.policy()
        longer = (self.client.prefix + prefix.encode()).hex()
        rules = [rule for rule in policy["rules"] if rule["prefix_hex"].startswith(longer)]
        return about["has_tiers"] and any(
            rule["write"] != "l1-only" for rule in (about["policy"], *rules)
        )

    def _stem(self, spaces: Sequence[str], *, begins: bool) -> Steps[Any]:
        """The beginning of all names now; `None` if there is no generation and none is to begin."""
        if not self._has_generations:
            return ""
        numbers = []
        for name in (GENERATION, *map(_generation_of, spaces)):
            number = yield from self._number(name, begins)
            if number is None:
                return None
            numbers.append(number)
        return ".".join(numbers) + ":"

    def _number(self, name: str, begins: bool) -> Steps[str | None]:
        number = yield lambda client: client.get(name)
        if number is not None:
            if begins and time.monotonic() >= self._renew_at.get(name, 0.0):
                self._renew_at[name] = time.monotonic() + RENEWAL_INTERVAL
                yield lambda client: client.touch(name, l1d.FOREVER)
            return number.decode()
        if not begins:
            return None
        # The store of record's number, if other hosts have begun one.
        initial = _fresh()
        return str((yield lambda client: client.incr(name, 0, initial=initial, ttl=l1d.FOREVER)))


def compare_and_set(name: str, token: Any, value: bytes, ttl: Any) -> Callable[[Any], Any]:
    """The step that replaces the value of `token`; its answer is false if there is another."""
    if token is None:
        raise l1d.Refused(
            "nothing was changed: atomic operations cannot change keys of process scope; give "
            'their rule scope = "host"'
        )
    return lambda client: client.cas(name, token, value, ttl)


def _generation_of(space: str | None) -> str:
    return GENERATION if space is None else f"{GENERATION}:{space}"


def _fresh() -> int:
    return secrets.randbits(52)
